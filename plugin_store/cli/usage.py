"""The command line of ``plugin-store``: its commands, their arguments and their help."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from plugin_store import __version__

STATUSES = """exit status:
  0  done
  1  refused; of status and migrate --check: something needs a hand; of diff: a difference
  2  wrong usage; of diff: refused
  3  the database is away"""


def typed(argument: str) -> str:
    """Return an argument as it was typed; it may be UTF-8 where the locale has another encoding."""
    return argument.removeprefix("\0").encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _text(metavar: str, **more: Any) -> dict[str, Any]:
    return {"metavar": metavar, "type": typed, **more}


def _flag(help: str) -> dict[str, Any]:
    return {"action": "store_true", "help": help}


NAME, NAMES = {"name": _text("NAME")}, {"names": _text("NAME", nargs="+")}
KEYS = {"keys": _text("KEY", nargs="+")}
FILE = {"file": {"metavar": "FILE", "help": "the file, - for standard input"}}
CREATE = {"--create": _flag("make the row of a plugin that has none")}
YES = {"--yes": _flag("do not ask")}
VALUES = {"--show-values": _flag("show the values of configs, not ***")}
PARTIAL = {"--partial": _flag("ignore rows that are not in the file")}
MIGRATE = {
    "--wait": {"metavar": "SECONDS", "type": float, "default": 0.0, "help": "how long to try to reach the database"},
    "--check": _flag("say what is to be done, change nothing"),
}
SET = {
    "key": _text("KEY"),
    "value": _text("VALUE", help="the value, - for standard input"),
    "--text": _flag("take VALUE for text, also if it is JSON"),
    **CREATE,
}
IMPORT = {
    "--dry-run": _flag("print what would change, change nothing"),
    "--prune": _flag("delete the rows that are not in the file"),
}
# Each command: what it does, an example, its arguments.
COMMANDS: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "migrate": ("make the table or bring it up to date, and repair its triggers", "--wait 30", MIGRATE),
    "status": ("tell how server, table, triggers and migrations are; for health checks", "--json", {}),
    "list": ("list all stored plugins", "--json | jq '.[].status'", VALUES),
    "show": ("show one plugin", "analytics", NAME | VALUES),
    "enable": ("set plugins to enabled, all or none of those named", "--create mail chat", NAMES | CREATE),
    "disable": ("set plugins to disabled, all or none of those named", "mail chat", NAMES | CREATE),
    "delete": ("delete a plugin's row, with its config", "analytics", NAME | YES),
    "config get": ("print a stored config, or one value of it", "mail port", NAME | {"key": _text("KEY", nargs="?")}),
    "config set": (
        "set a key; VALUE is JSON if it reads back as typed, else text",
        "mail port 25",
        NAME | SET | CREATE,
    ),
    "config unset": (
        "remove keys, so that the code's defaults hold",
        "mail port",
        NAME | KEYS,
    ),
    "export": ("print plugins as a file for import and diff", "> all.json", {"names": _text("NAME", nargs="*")}),
    "import": ("make the table what a file says, all or nothing", "--prune all.json", FILE | IMPORT | YES | VALUES),
    "diff": ("print what import --prune would change", "--partial mail.json", FILE | PARTIAL | VALUES),
    "watch": ("print each change of the table as it happens", "--json >> changes.log", VALUES),
    "sandbox": ("run a command with a throw-away PostgreSQL", "-- bash", {"command": {"nargs": argparse.REMAINDER}}),
    "demo": ("show a disabled plugin stay disabled over a restart", "", {}),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The message repeats what it did not understand, which may be a password or a value.
        if any(part in message.lower() for part in ("://", "password", "@")):
            message = (
                "what looks like a conninfo is not understood here (it is not shown, as it may hold a password): "
                "it belongs after --database, in quotes"
            )
        elif message.startswith("unrecognized arguments: "):
            options = [word.partition("=")[0] for word in message.split() if word.startswith("-")]
            message = f"unknown option {' '.join(options)}" if options else "too many arguments: quote what has blanks"
        super().error(message)


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the arguments, with the command's name as ``run``; SystemExit, as argparse does, for wrong usage."""
    # argparse takes -1e5 for an option. No argument of a process holds NUL, so NUL marks a number.
    marked = ["\0" + argument if re.match(r"-\.?\d", argument) else argument for argument in argv]
    # The common options may stand before or after the command, so their defaults are given here.
    return _parser().parse_args(marked, argparse.Namespace(database=None, json=False, show_values=False))


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--database", metavar="URL", help="the database, else DATABASE_URL, else libpq's PG* variables")
    common.add_argument("--json", action="store_true", help="print JSON, for machines")
    raw: dict[str, Any] = {"parents": [common], "formatter_class": argparse.RawDescriptionHelpFormatter}
    text = "Look at, switch and configure the plugins stored in a PostgreSQL table."
    epilog = f"examples:\n  plugin-store list\n  plugin-store disable analytics\n\n{STATUSES}"
    parser = _Parser(prog="plugin-store", description=text, epilog=epilog, **raw)
    parser.add_argument("--version", action="version", version=f"plugin-store {__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    config = top.add_parser("config", help="read and write a plugin's config", parents=[common])
    below = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (text, example, arguments) in COMMANDS.items():
        of, _, verb = name.rpartition(" ")
        epilog = f"examples:\n  plugin-store {name} {example}\n\n{STATUSES}"
        command = (below if of else top).add_parser(
            verb, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog, **raw
        )
        command.set_defaults(run=name)
        for argument, options in arguments.items():
            command.add_argument(argument, **options)
    return parser
