"""The package as it gets onto a machine. The rest of the tests run in a checkout or an editable installation."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv

import plugin_store

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ["plugin_store", "sql", "migrations", "tests"]
FILES = ["pyproject.toml", "MANIFEST.in", "tox.ini", "README.md", "CHANGELOG.md", "LICENSE"]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command with nothing of where these tests run, and return all that it prints."""
    env |= {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    pipe, stdout = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(command, cwd=cwd, env=env, stdout=pipe, stderr=stdout, text=True, timeout=300)
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
    """The sdist and the wheel that is built from it, as `python -m build` makes them."""
    dist = tmp_path_factory.mktemp("dist")
    with DefaultIsolatedEnv() as environment:
        builder = ProjectBuilder.from_isolated_env(environment, sources)
        environment.install(builder.build_system_requires)
        sdist = Path(builder.build("sdist", dist))
        with tarfile.open(sdist) as archive:
            # 3.12 and 3.13 warn when no filter is named; before 3.11.4 there is none to name
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(dist)
        builder = ProjectBuilder.from_isolated_env(environment, dist / sdist.name.removesuffix(".tar.gz"))
        return {"sdist": sdist, "wheel": Path(builder.build("wheel", dist))}


def test_wheel_holds_the_package_and_nothing_else(sources: Path, built: dict[str, Path]) -> None:
    package = sources / "plugin_store"
    # glob does not follow the links to sql and migrations in every Python
    files = [path for place in (package, package / "sql", package / "migrations") for path in place.rglob("*")]
    expected = {
        str(path.relative_to(sources)) for path in files if path.is_file() and path.suffix not in (".pyc", ".md")
    }
    with ZipFile(built["wheel"]) as wheel:
        held = set(wheel.namelist())
        assert not [info.filename for info in wheel.infolist() if stat.S_ISLNK(info.external_attr >> 16)]
    assert {name for name in held if ".dist-info/" not in name} == expected
    assert {"plugin_store/sql/save.sql", "plugin_store/py.typed"} < held


def test_sdist_holds_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tox.ini", "tests/conftest.py", "tests/README.md", "sql/README.md", "plugin_store/README.md"} <= names


def test_wheel_brings_package_and_commands(built: dict[str, Path], empty_url: str, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--target", tmp_path)
    run(*pip, built["wheel"], cwd=tmp_path)

    def python(*arguments: str | Path) -> str:
        return run(sys.executable, *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))

    url = empty_url.replace("postgresql://", "postgresql+psycopg://")
    python("-m", "yoyo", "apply", "--batch", "--no-config-file", "-d", url, "package:plugin_store:migrations")
    program = "import plugin_store as p, importlib.metadata as m; print(p.__file__, m.version('plugin-store'))"
    assert python("-c", program) == f"{tmp_path / 'plugin_store' / '__init__.py'} {plugin_store.__version__}\n"
    command = tmp_path / "bin" / "plugin-store"
    assert python(command, "--version") == f"plugin-store {plugin_store.__version__}\n"
    python(command, "enable", "--create", "analytics", "--database", empty_url)
    assert re.search(r"^  plugins ", python("-m", "flask", "--help"), re.MULTILINE)


def test_checkout_without_links_says_the_cure(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources, tmp_path, symlinks=True, dirs_exist_ok=True)

    def git(*arguments: str) -> None:
        run("git", *arguments, cwd=tmp_path, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")

    def load() -> str:
        program = "try: from plugin_store import PluginConfigRepository\nexcept Exception as exc: print(repr(exc))"
        return run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path))

    git("init", "--quiet")
    git("add", "plugin_store")
    # As git does where it may make no symbolic links: each becomes a file that holds its target.
    git("config", "core.symlinks", "false")
    (tmp_path / "plugin_store" / "sql").unlink()
    git("checkout", "plugin_store/sql")
    assert (tmp_path / "plugin_store" / "sql").read_text() == "../sql"
    failed = load()
    assert "InstallationError(" in failed and "this checkout has no symbolic links" in failed
    cure = re.search(r"run `([^`]+)`", failed)
    assert cure is not None
    run("sh", "-c", cure[1], cwd=tmp_path)
    assert load() == ""


@pytest.mark.wheel
def test_wheel_works_with_its_extras(built: dict[str, Path], empty_url: str, tmp_path: Path) -> None:
    venv.create(tmp_path)
    command = tmp_path / "bin" / "plugin-store"
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", tmp_path / "bin" / "python", "install")
    run(*pip, f"{built['wheel']}[demo]", cwd=tmp_path)
    assert run(command, "migrate", "--database", empty_url, cwd=tmp_path).startswith("applied ")
    run(command, "demo", cwd=tmp_path)  # fails unless every step is as promised
