"""The command line of ``plugin-store``: its commands, their arguments and their help."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from plugin_store import __version__

from .output import say, write

STATUSES = """exit status:
  0  done
  1  refused; status and migrate --check: something must be repaired; diff: a difference
  2  wrong usage; diff: refused
  3  the database is away"""


def marked(argv: list[str]) -> list[str]:
    """Return the arguments with a NUL before numbers, since parsers take -1e5 for an option.

    The arguments of a process never hold NUL.
    """
    return ["\0" + argument if re.match(r"-\.?\d", argument) else argument for argument in argv]


def given(argument: str) -> str:
    """Return an argument without the mark that ``marked`` gives to numbers."""
    return argument.removeprefix("\0")


def number(argument: str) -> float:
    """Return an argument that is a number."""
    return float(given(argument))


def typed(argument: str) -> str:
    """Return an argument as it was typed. UTF-8 arguments are read in any locale."""
    return given(argument).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _flag(help: str) -> dict[str, Any]:
    return {"action": "store_true", "help": help}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"metavar": "NAME", "type": typed},
    "names": {"metavar": "NAME", "type": typed, "nargs": "+"},
    "any_names": {"metavar": "NAME", "type": typed, "nargs": "*"},
    "key": {"metavar": "KEY", "type": typed},
    "any_key": {"metavar": "KEY", "type": typed, "nargs": "?"},
    "keys": {"metavar": "KEY", "type": typed, "nargs": "+"},
    "value": {"metavar": "VALUE", "type": typed, "help": "the value, - for standard input"},
    "file": {"metavar": "FILE", "type": given, "help": "the file, - for standard input"},
    "command": {"nargs": argparse.REMAINDER, "type": given},
    "--check": _flag("print what is pending, change nothing"),
    "--create": _flag("create the row if the plugin has none"),
    "--dry-run": _flag("print what would change, change nothing"),
    "--prune": _flag("delete the rows that are not in the file"),
    "--show-values": _flag("show the values of configs, not ***"),
    "--text": _flag("store VALUE as text, even if it is JSON"),
    "--wait": {"metavar": "SECONDS", "type": number, "default": 0.0, "help": "how long to try to reach the database"},
    "--yes": _flag("do not ask"),
}
# Each command: its arguments, an example of them, what the command does.
COMMANDS = {
    "migrate": ("--wait --check", "--wait 30", "create or update the table, and repair its triggers"),
    "status": ("", "--json", "check server, table, triggers and migrations; for health checks"),
    "list": ("--show-values", "--json | jq '.[].status'", "list all stored plugins"),
    "show": ("name --show-values", "analytics", "show one plugin"),
    "enable": ("names --create", "--create mail chat", "enable all named plugins or none"),
    "disable": ("names --create", "mail chat", "disable all named plugins or none"),
    "delete": ("name --yes", "analytics", "delete a plugin's row and its config"),
    "config get": ("name any_key", "mail port", "print a stored config, or one value of it"),
    "config set": ("name key value --text --create", "mail port 25", "set a key to a JSON value, or to text"),
    "config unset": ("name keys", "mail port", "remove keys, so that the code's defaults apply"),
    "export": ("any_names", "> all.json", "print plugins as a file for import and diff"),
    "import": ("file --dry-run --prune --yes --show-values", "--prune all.json", "store a file's plugins, all or none"),
    "diff": ("file --show-values", "all.json", "print what import --prune would change"),
    "watch": ("--show-values", "--json >> changes.log", "print each change of the table as it happens"),
    "sandbox": ("command", "-- bash", "run a command with a throw-away PostgreSQL"),
    "demo": ("", "", "show that a disabled plugin stays disabled after a restart"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The message repeats the wrong argument, which may be a password or a value.
        if any(part in message.lower() for part in ("://", "password", "@")):
            message = (
                "an argument looks like a conninfo (hidden, for its password): it belongs after --database, in quotes"
            )
        elif message.startswith("unrecognized arguments: "):
            options = [word.partition("=")[0] for word in message.split() if word.startswith("-")]
            message = f"unknown option {' '.join(options)}" if options else "too many arguments: quote what has blanks"
        message = re.sub(r"(explicit argument|value:) .*", r"\1 (hidden)", message, flags=re.DOTALL)
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {message}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        say(message or "", end="")
        write("")  # flushes the help
        raise SystemExit(status)


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the arguments, with the command's name as ``run``; SystemExit, as argparse does, for wrong usage."""
    # Common options may stand before or after the command. So argparse must not reset them to a default.
    return _parser().parse_args(marked(argv), argparse.Namespace(database=None, json=False, show_values=False))


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
    for name, (arguments, example, text) in COMMANDS.items():
        group, _, verb = name.rpartition(" ")
        epilog = f"examples:\n  plugin-store {name} {example}\n\n{STATUSES}"
        add = (below if group else top).add_parser
        command = add(verb, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog, **raw)
        command.set_defaults(run=name)
        for argument in arguments.split():
            command.add_argument(argument, **ARGUMENTS[argument])
    return parser
