"""The command ``plugin-store``: the table from a shell.

It reads and writes rows and runs no plugin code: what a row says becomes true in the processes that
follow the table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from plugin_store import __version__
from plugin_store.errors import InvalidConfigError, InvalidFileError, PluginNotFoundError, PluginStoreError
from plugin_store.stores.conninfo import masked
from plugin_store.stores.model import DISABLED, ENABLED, PluginConfig

from .output import near, printable, printable_lines, progress, value_of

if TYPE_CHECKING:
    from datetime import datetime

    from plugin_store.stores.cursors import Connection
    from plugin_store.stores.postgres import PluginConfigRepository

    from .changes import PluginChange

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


def run(argv: list[str] | None = None) -> int:
    """Run ``plugin-store`` and return its exit status: 0, 1 for an error, which is on stderr, 2 for wrong usage.

    Of ``diff``, 1 is a difference and 2 an error. ``argv`` are the arguments without the command's name, by default
    those of the process. Wrong usage raises SystemExit, as argparse does.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv, argparse.Namespace(database=None, json=False, failed=1))
    try:
        status: int | None = args.run(args)
        sys.stdout.flush()
    except PluginStoreError as exc:
        print(f"plugin-store: {masked(str(exc))}", file=sys.stderr)
        return int(args.failed)
    except OSError as exc:
        # Of writing to stdout: Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):  # the reader has gone, as `head` does
            return 128 + 13
        print(f"plugin-store: {exc}", file=sys.stderr)
        return int(args.failed)
    except KeyboardInterrupt:
        return 128 + 2
    return status or 0


# -- commands ---------------------------------------------------------------------------------


def _migrate(args: argparse.Namespace) -> None:
    from .migrate import migrate

    with progress("migrating, after other migrations and transactions that use the table"):
        applied = migrate(_database(args), wait_seconds=args.wait)
    if args.json:
        _print_json({"applied": applied})
    elif applied:
        print("\n".join(f"applied {name}" for name in applied))
    else:
        print("nothing to apply, the table is up to date")


def _list(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        rows = repository.get_all()
    if args.json:
        _print_json([_as_json(row) for row in rows])
    elif rows:
        cells = [(row.plugin_name, row.status, _time(_since(row)), ", ".join(row.config)) for row in rows]
        _print_table([("NAME", "STATUS", "SINCE", "CONFIG KEYS"), *cells])
    else:
        print("no plugin is stored yet", file=sys.stderr)


def _show(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        row = _existing(repository, [args.name])[0]
    if args.json:
        _print_json(_as_json(row))
        return
    times = [(name, getattr(row, name)) for name in ("enabled_at", "disabled_at", "created_at", "updated_at")]
    pairs = [("plugin_name", row.plugin_name), ("status", row.status), ("id", str(row.id))]
    _print_table([*pairs, *((name, _time(time)) for name, time in times)])
    print("config " + printable_lines(json.dumps(row.config, indent=2, ensure_ascii=False)))


def _enable(args: argparse.Namespace) -> None:
    _set_status(args, ENABLED, create=args.create)


def _disable(args: argparse.Namespace) -> None:
    _set_status(args, DISABLED, create=False)


def _set_status(args: argparse.Namespace, status: str, *, create: bool) -> None:
    with _repository(args) as repository:
        if not create:
            _existing(repository, args.names)
        # Each save locks its row until the end: in any other order than that of others they could deadlock.
        rows = [repository.save(name, status) for name in sorted(set(args.names))]
    if args.json:
        _print_json([_as_json(row) for row in rows])
    else:
        print("\n".join(f"{printable(row.plugin_name)}: {row.status} since {_time(_since(row))}" for row in rows))


def _delete(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        row = _existing(repository, [args.name])[0]
        repository.delete(args.name)
    if args.json:
        _print_json({"deleted": _as_json(row)})
    else:
        print(f"{printable(row.plugin_name)}: deleted, it was {row.status} with config {json.dumps(row.config)}")


def _config_get(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        config = _existing(repository, [args.name])[0].config
    value = config if args.key is None else config[_known_key(args.name, config, args.key)]
    if isinstance(value, str) and not args.json:
        print(printable_lines(value) if sys.stdout.isatty() else value)  # a program gets it as it is
    else:
        _print_json(value)


def _config_set(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        _existing(repository, [args.name])
        row = repository.update_config(args.name, {args.key: value_of(args.value)})
    _print_json(row.config)


def _config_unset(args: argparse.Namespace) -> None:
    with _repository(args) as repository:
        config = _existing(repository, [args.name])[0].config
        keys = [_known_key(args.name, config, key) for key in args.keys]
        row = repository.update_config(args.name, {}, remove=keys)
    _print_json(row.config)


def _watch(args: argparse.Namespace) -> None:
    from .watch import watch

    def show(at: datetime, change: PluginChange) -> None:
        if args.json:
            values = {name: getattr(change, name) for name in ("plugin_name", "what", "before", "after")}
            line = json.dumps({"at": at} | values, default=_plain)
        else:
            before, after = (json.dumps(value, ensure_ascii=False) for value in (change.before, change.after))
            line = f"{_time(at)} {printable(f'{change.plugin_name}: {change.what} {before} -> {after}')}"
        print(line, flush=True)

    def ready() -> None:
        print("watching, ^C ends it", file=sys.stderr, flush=True)

    watch(_database(args), ready, show)


def _export(args: argparse.Namespace) -> None:
    from .transfer import dump_plugins

    with _repository(args) as repository:
        rows = _existing(repository, args.names) if args.names else repository.get_all()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # the file is the same wherever it is made
    print(dump_plugins(rows), end="")


def _import(args: argparse.Namespace) -> None:
    from .transfer import diff_plugins, import_plugins

    plugins = _read_plugins(args.file)
    if args.dry_run:
        with _repository(args) as repository:
            rows = repository.get_all()
        _show_changes(args, diff_plugins(rows, plugins, partial=not args.prune))
    else:
        waiting = progress("importing, after transactions that write to the table")
        with waiting, _connected(args) as connection:
            import_plugins(connection, plugins, prune=args.prune, show=lambda made: _show_changes(args, made))


def _diff(args: argparse.Namespace) -> int:
    from .transfer import diff_plugins

    plugins = _read_plugins(args.file)
    with _repository(args) as repository:
        rows = repository.get_all()
    found = diff_plugins(rows, plugins, partial=args.partial)
    _show_changes(args, found)
    return 1 if found else 0


def _read_plugins(file: str) -> list[PluginConfig]:
    from .transfer import load_plugins

    try:
        if file == "-":
            return load_plugins(sys.stdin.buffer.read())
        with open(file, "rb") as opened:
            return load_plugins(opened.read())
    except OSError as exc:
        raise PluginStoreError(f"cannot read {file!r}: {exc.strerror}") from exc
    except InvalidFileError as exc:
        raise InvalidFileError(f"{file!r} is refused: {exc}") from exc


def _show_changes(args: argparse.Namespace, made: list[PluginChange]) -> None:
    if args.json:
        _print_json([{name: getattr(change, name) for name in change.__slots__} for change in made])
    elif made:
        print("\n".join(map(str, made)), flush=True)
    else:
        print("no difference, the table is as the file says", file=sys.stderr)


def _sandbox(args: argparse.Namespace) -> int:
    from plugin_store.sandbox import sandbox

    return sandbox(args.command[1:] if args.command[:1] == ["--"] else args.command)


def _demo(args: argparse.Namespace) -> int:
    from plugin_store.demo.play import play

    return play()


# -- the database -----------------------------------------------------------------------------


def _database(args: argparse.Namespace) -> str:
    given: str | None = args.database or os.environ.get("DATABASE_URL")
    if given or any(os.environ.get(name) for name in LIBPQ_VARIABLES):
        return given or ""
    raise PluginStoreError(
        "no database: set DATABASE_URL to one (postgresql://…), or libpq's PGHOST, PGDATABASE and so "
        "on, or give --database URL; to try things out, `plugin-store sandbox` starts a throw-away one"
    )


@contextmanager
def _connected(args: argparse.Namespace) -> Iterator[Connection]:
    from plugin_store.stores.connections import connect

    with connect(_database(args), "plugin_store cli") as connection:
        connection.prepare_threshold = None  # what it prepared would stay behind in a pooler's session
        yield connection


@contextmanager
def _repository(args: argparse.Namespace) -> Iterator[PluginConfigRepository]:
    """A repository in one transaction, committed if all goes well: a command does all of its work or none."""
    from plugin_store.stores.driver_errors import translated_errors
    from plugin_store.stores.postgres import PluginConfigRepository

    with _connected(args) as connection, translated_errors(), connection.transaction():
        yield PluginConfigRepository(connection)


def _existing(repository: PluginConfigRepository, names: Iterable[str]) -> list[PluginConfig]:
    """Return the rows of these names, or raise PluginNotFoundError listing what may have been meant."""
    found = {name: repository.get_by_name(name) for name in names}
    rows = [row for row in found.values() if row is not None]
    if missing := [name for name, row in found.items() if row is None]:
        stored = [row.plugin_name for row in repository.get_all()]
        hints = "; ".join(f"no plugin {name!r} is stored{near(name, stored)}" for name in missing)
        raise PluginNotFoundError(f"{hints}; `plugin-store enable --create NAME` makes a row")
    return rows


def _known_key(name: str, config: dict[str, Any], key: str) -> str:
    if key not in config:
        raise InvalidConfigError(f"plugin {name!r}: no key {key!r} is stored in its config{near(key, list(config))}")
    return key


# -- output -----------------------------------------------------------------------------------


def _since(row: PluginConfig) -> Any:
    return row.enabled_at if row.status == ENABLED else row.disabled_at


def _time(time: Any) -> str:
    return "-" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")


def _as_json(row: PluginConfig) -> dict[str, Any]:
    columns = ("plugin_name", "status", "config", "id", "enabled_at", "disabled_at", "created_at", "updated_at")
    return {name: getattr(row, name) for name in columns}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> str:
    """Return a timestamp or an id as JSON has them."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# -- usage ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # It repeats what it did not understand, whose passwords no pattern finds for certain.
        if any(part in message.lower() for part in ("://", "password", "@")):
            message = (
                "what looks like a conninfo is not understood here (it is not shown, as it may hold a password): "
                "it belongs after --database, in quotes"
            )
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    # The common options may stand before or after the command: with a default, the one after it would
    # overwrite what stood before it. Their defaults are in main().
    common = _Parser(add_help=False)
    common.add_argument(
        "--database",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="the database, else DATABASE_URL, else libpq's PG* variables",
    )
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for machines")
    parser = _Parser(
        prog="plugin-store",
        parents=[common],
        description="Look at, switch and configure the plugins stored in a PostgreSQL table.",
        epilog="examples:\n  plugin-store list\n  plugin-store disable analytics\n"
        "  plugin-store config set analytics window 15\n  plugin-store sandbox -- bash",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"plugin-store {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        group: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str, *examples: str
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = group.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            parents=[common],
            epilog="\n  ".join(["examples:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    migrate = command(
        commands,
        "migrate",
        _migrate,
        "make the table, or bring it up to date, with yoyo",
        "plugin-store migrate",
        "plugin-store migrate --wait 30",
    )
    migrate.add_argument(
        "--wait", metavar="SECONDS", type=float, default=0.0, help="try for so long to reach the database, 0 by default"
    )
    command(
        commands,
        "list",
        _list,
        "list all stored plugins",
        "plugin-store list",
        "plugin-store list --json | jq '.[].status'",
    )
    show = command(commands, "show", _show, "show all of one plugin", "plugin-store show analytics")
    show.add_argument("name", metavar="NAME")
    enable = command(
        commands,
        "enable",
        _enable,
        "set plugins to enabled, all or none of those named",
        "plugin-store enable analytics",
        "plugin-store enable --create mail chat",
    )
    enable.add_argument("names", metavar="NAME", nargs="+")
    enable.add_argument("--create", action="store_true", help="make the row of a plugin that has none")
    disable = command(
        commands,
        "disable",
        _disable,
        "set plugins to disabled, all or none of those named",
        "plugin-store disable analytics",
    )
    disable.add_argument("names", metavar="NAME", nargs="+")
    delete = command(
        commands, "delete", _delete, "delete a plugin's row, with its config", "plugin-store delete analytics"
    )
    delete.add_argument("name", metavar="NAME")

    config = commands.add_parser("config", help="read and write a plugin's config", parents=[common])
    verbs = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    get = command(
        verbs,
        "get",
        _config_get,
        "print a plugin's config, or one value of it",
        "plugin-store config get analytics",
        "plugin-store config get analytics window",
    )
    get.add_argument("name", metavar="NAME")
    get.add_argument("key", metavar="KEY", nargs="?")
    set_ = command(
        verbs,
        "set",
        _config_set,
        "set one key of a plugin's config; VALUE is JSON if it reads as JSON, else text",
        "plugin-store config set analytics window 15",
        "plugin-store config set analytics title 'Last 15 minutes'",
        """plugin-store config set analytics hosts '["a", "b"]'""",
    )
    set_.add_argument("name", metavar="NAME")
    set_.add_argument("key", metavar="KEY")
    set_.add_argument("value", metavar="VALUE")
    unset = command(
        verbs,
        "unset",
        _config_unset,
        "take keys out of a plugin's config, so that the code's defaults hold",
        "plugin-store config unset analytics window",
    )
    unset.add_argument("name", metavar="NAME")
    unset.add_argument("keys", metavar="KEY", nargs="+")

    export = command(
        commands,
        "export",
        _export,
        "print plugins, all of them unless named, as a file that import and diff read",
        "plugin-store export > plugins.json",
        "plugin-store export mail chat",
    )
    export.add_argument("names", metavar="NAME", nargs="*")
    import_ = command(
        commands,
        "import",
        _import,
        "make the table what an exported file says, all of it or nothing, and print what changes",
        "plugin-store import plugins.json --dry-run",
        "plugin-store import --prune plugins.json",
        "plugin-store export --database URL | plugin-store import -",
    )
    import_.add_argument("file", metavar="FILE", help="the file, - for standard input")
    import_.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    import_.add_argument("--prune", action="store_true", help="delete the rows that are not in the file")
    diff = command(
        commands,
        "diff",
        _diff,
        "print what import --prune would change, and exit with 1 if that is anything, with 2 on an error",
        "plugin-store diff plugins.json",
        "plugin-store diff --partial mail.json",
    )
    diff.add_argument("file", metavar="FILE", help="the file, - for standard input")
    diff.add_argument("--partial", action="store_true", help="let rows be that are not in the file")
    diff.set_defaults(failed=2)

    command(
        commands,
        "watch",
        _watch,
        "print each change of the table as it happens",
        "plugin-store watch",
        "plugin-store watch --json >> changes.log",
    )
    box = command(
        commands,
        "sandbox",
        _sandbox,
        "run a command, or wait for ^C, with a throw-away PostgreSQL in DATABASE_URL",
        "plugin-store sandbox -- bash",
        "plugin-store sandbox -- plugin-store list",
    )
    box.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    command(commands, "demo", _demo, "show a disabled plugin stay disabled over a restart", "plugin-store demo")
    return parser
