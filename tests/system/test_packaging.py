"""The package, however it gets onto a machine: by wheel, sdist, editable install or as a plain checkout."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv

import plugin_store

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ["plugin_store", "sql", "migrations", "tests"]
FILES = ["pyproject.toml", "MANIFEST.in", "tox.ini", "README.md", "CHANGELOG.md", "LICENSE"]

SERVICE = """
import sys
from plugin_store import BasePlugin, PluginConfigRepository, PluginManager, PluginMetadata

class Analytics(BasePlugin):
    metadata = PluginMetadata("analytics", "1.0.0", "me", "counts")

with PluginConfigRepository.open(sys.argv[1]) as repository:
    manager = PluginManager(config_repo=repository)
    manager.register_plugin(Analytics())
    manager.initialize_plugin("analytics")
    manager.enable_defaults("analytics")
    manager.load_persisted_state()
    print([plugin.metadata.name for plugin in manager.get_enabled_plugins()])
"""


@dataclass
class Installation:
    """A Python that can import this package, in one of the ways that there are."""

    executable: Path
    origin: Path
    pythonpath: str = ""

    def python(self, *arguments: str) -> str:
        """Run this Python and return all that it printed."""
        return self.command(self.executable.name, *arguments)

    def command(self, name: str, *arguments: str) -> str:
        """Run a command that was installed beside this Python, far from any checkout."""
        # Nothing of where these tests run, and no coverage of a copy.
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            [self.executable.with_name(name), *arguments],
            cwd=self.executable.parent,
            env=environment | {"PYTHONPATH": self.pythonpath},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone would hold: a build leaves its traces here, not in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(CHECKOUT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All that can be built, in one of the fresh environments that `python -m build` makes for each."""
    dist = tmp_path_factory.mktemp("dist")
    with DefaultIsolatedEnv() as environment:
        builder = ProjectBuilder.from_isolated_env(environment, sources)
        environment.install(builder.build_system_requires)
        made = {kind: Path(builder.build(kind, dist / kind)) for kind in ("sdist", "wheel")}
        with tarfile.open(made["sdist"]) as archive:
            # 3.12 and 3.13 warn when no filter is named; before 3.11.4 there is none to name
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(dist)
        unpacked = dist / made["sdist"].name.removesuffix(".tar.gz")
        builder = ProjectBuilder.from_isolated_env(environment, unpacked)
        made["wheel from sdist"] = Path(builder.build("wheel", dist / "wheel from sdist"))
    return made


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of this environment, but without plugin_store, which may be one of them."""
    links = tmp_path_factory.mktemp("dependencies")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(("plugin_store", "__editable__")):
            (links / package.name).symlink_to(package)
    return links


@pytest.fixture(scope="module", params=["wheel from sdist", "editable", "checkout"])
def installation(
    request: pytest.FixtureRequest, sources: Path, dependencies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """An environment of its own, and the package in it as the parameter says."""
    python = fresh_python(tmp_path_factory.mktemp("venv"))
    program = "import site; print(site.getsitepackages()[0])"
    site_packages = Path(subprocess.check_output([python, "-c", program], text=True).strip())
    (site_packages / "dependencies.pth").write_text(f"{dependencies}\n")
    if request.param == "checkout":
        return Installation(python, sources / "plugin_store", pythonpath=str(sources))
    if request.param == "editable":
        pip_install(python, "--no-deps", "--editable", sources)
        return Installation(python, sources / "plugin_store")
    pip_install(python, "--no-deps", request.getfixturevalue("built")[request.param])
    return Installation(python, site_packages / "plugin_store")


def fresh_python(home: Path) -> Path:
    """A virtual environment without pip: making one with pip takes 20 times as long."""
    builder = venv.EnvBuilder(symlinks=True)
    builder.create(home)
    return Path(builder.ensure_directories(home).env_exe)


def pip_install(python: Path, *arguments: str | Path) -> None:
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install"]
    subprocess.run([*pip, *arguments], check=True, timeout=300)


def yoyo_apply(url: str) -> list[str]:
    """The arguments that make Python run yoyo, as its command does."""
    url = url.replace("postgresql://", "postgresql+psycopg://")
    return ["-m", "yoyo", "apply", "--batch", "--no-config-file", "-d", url, "package:plugin_store:migrations"]


def test_each_way_brings_the_whole_package(installation: Installation, empty_url: str) -> None:
    origin, version = installation.origin, plugin_store.__version__
    program = "import plugin_store; print(plugin_store.__file__)"
    assert installation.python("-c", program) == f"{origin / '__init__.py'}\n"
    assert (origin / "py.typed").is_file()
    assert installation.python("-m", "plugin_store", "--version") == f"plugin-store {version}\n"
    installation.python(*yoyo_apply(empty_url))
    assert installation.python("-c", SERVICE, empty_url) == "['analytics']\n"


@pytest.mark.parametrize("installation", ["wheel from sdist", "editable"], indirect=True)
def test_each_installation_brings_the_commands(installation: Installation) -> None:
    version = plugin_store.__version__
    program = "from importlib.metadata import version; print(version('plugin-store'))"
    assert installation.python("-c", program) == f"{version}\n"
    assert installation.command("plugin-store", "--version") == f"plugin-store {version}\n"
    assert re.search(r"^  plugins ", installation.python("-m", "flask", "--help"), re.MULTILINE)


def test_wheel_holds_the_package_and_nothing_else(sources: Path, built: dict[str, Path]) -> None:
    package = sources / "plugin_store"
    # glob does not follow the links to sql and migrations in every Python
    files = [path for place in (package, package / "sql", package / "migrations") for path in place.rglob("*")]
    expected = {
        str(path.relative_to(sources)) for path in files if path.is_file() and path.suffix not in (".pyc", ".md")
    }
    with ZipFile(built["wheel"]) as wheel, ZipFile(built["wheel from sdist"]) as again:
        held = {info.filename: info.CRC for info in wheel.infolist()}
        assert held == {info.filename: info.CRC for info in again.infolist()}
        assert not [info.filename for info in wheel.infolist() if stat.S_ISLNK(info.external_attr >> 16)]
    assert {name for name in held if ".dist-info/" not in name} == expected
    assert {"plugin_store/sql/save.sql", "plugin_store/py.typed"} < held.keys()


def test_sdist_holds_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tox.ini", "tests/conftest.py", "tests/README.md", "sql/README.md", "plugin_store/README.md"} <= names


def test_checkout_without_links_says_the_cure(sources: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "COVERAGE_"))}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PYTHONPATH": str(tmp_path)}
    shutil.copytree(sources, tmp_path, symlinks=True, dirs_exist_ok=True)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    run("git", "init", "--quiet")
    run("git", "add", "plugin_store")
    # as git does where it may make no symbolic links: each becomes a file that holds its target
    run("git", "config", "core.symlinks", "false")
    (tmp_path / "plugin_store" / "sql").unlink()
    run("git", "checkout", "plugin_store/sql").check_returncode()
    assert (tmp_path / "plugin_store" / "sql").read_text() == "../sql"
    load = (sys.executable, "-c", "from plugin_store import PluginConfigRepository")
    failed = run(*load).stderr
    assert "InstallationError: the folder " in failed and "plugin_store/sql is a symbolic link to ../sql" in failed
    cure = re.search(r"run `([^`]+)`", failed)
    assert cure is not None
    run("sh", "-c", cure[1]).check_returncode()
    assert run(*load).returncode == 0


@pytest.mark.wheel
def test_wheel_works_with_its_extras(built: dict[str, Path], empty_url: str, tmp_path: Path) -> None:
    python = fresh_python(tmp_path / "venv")
    pip_install(python, f"{built['wheel from sdist']}[demo]")
    installed = Installation(python, tmp_path)
    installed.python(*yoyo_apply(empty_url))
    assert installed.command("plugin-store", "migrate", "--database", empty_url).startswith("nothing to apply")
    assert installed.python("-c", SERVICE, empty_url) == "['analytics']\n"
    installed.command("plugin-store", "disable", "analytics", "--database", empty_url)
    assert installed.python("-c", SERVICE, empty_url) == "[]\n"
    installed.command("plugin-store", "demo")  # fails unless every step is as promised
