"""The commands of ``plugin-store``: ``do_NAME`` takes the arguments of the command and returns what to print.

The commands run no plugin code: the services that follow the table apply the rows. A command commits before it
prints, so a slow reader of its output holds no lock.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from plugin_store.errors import InvalidConfigError, InvalidFileError, PluginStoreError
from plugin_store.stores.model import DISABLED, ENABLED, PluginConfig
from plugin_store.stores.postgres import PluginConfigRepository
from plugin_store.stores.schema import inspect_schema

from . import verbs
from .database import database, stored, transaction
from .migrate import migrate, pending
from .output import Answer, as_json, as_table, hidden, local, near, printable, progress, say
from .transfer import PluginChange, diff_plugins, dump_plugins, import_plugins, load_plugins
from .watch import do_watch as do_watch

OFF = "a plugin that the code enables by default comes back enabled; `plugin-store disable --create NAME` keeps it off"


def do_migrate(args: Namespace) -> Answer:
    with progress("migrating, and waiting for other migrations and for transactions that use the table"):
        names = migrate(database(args), wait_seconds=args.wait, check=args.check)
    done = "pending" if args.check else "applied"
    lines = [f"{done} {name}\n" for name in names] or ["nothing to apply, the table is up to date\n"]
    return _either(args, {done: names}, "".join(lines), status=int(args.check and bool(names)))


def do_status(args: Namespace) -> Answer:
    with transaction(args) as connection:
        state, info = inspect_schema(connection), connection.info
        missing = pending(connection, state)
        readable = state.schema and not state.foreign and not state.row_security
        rows, unreadable = verbs.read_all(PluginConfigRepository(connection)) if readable else ([], [])
        values = {
            "server": f"{info.host}:{info.port}",
            "database": info.dbname,
            "version": f"{state.server_version // 10_000}.{state.server_version % 10_000}",
            "table": f"{state.schema}.plugin_config" if state.schema else "missing",
            "idle_triggers": state.idle_triggers,
            "pending_migrations": missing,
            "rows": dict(Counter(row.status for row in rows)),
        }
    problems = state.problems() + unreadable
    if missing and not state.foreign:
        problems.append(f"migrations are pending, {', '.join(missing)}: run `plugin-store migrate`")
    cells = [(name, _words(value)) for name, value in values.items()] + [("problem", each) for each in problems]
    return _either(args, values | {"problems": problems}, as_table(cells), status=int(bool(problems)))


def do_list(args: Namespace) -> Answer:
    with stored(args) as store:
        rows, problems = verbs.read_all(store)
    if not rows and not problems and not args.json:
        return Answer(notes=["no plugin is stored yet"])
    cells = [(row.plugin_name, row.status, local(_since(row)), ", ".join(row.config)) for row in rows]
    text = as_table([("NAME", "STATUS", "SINCE", "CONFIG KEYS"), *cells])
    return _either(args, [_as_json(row, args) for row in rows], text, problems, status=int(bool(problems)))


def do_show(args: Namespace) -> Answer:
    with stored(args) as store:
        row = verbs.existing(store, args.name)
    values = _as_json(row, args)
    cells = [(name, local(value) if name.endswith("_at") else str(value)) for name, value in values.items()]
    config = printable(json.dumps(values["config"], indent=2, ensure_ascii=False), keep="\n")
    text = as_table([cell for cell in cells if cell[0] != "config"]) + f"config {config}\n"
    notes = [] if args.json or values["config"] == row.config else ["--show-values shows the values of the config"]
    return _either(args, values, text, notes)


def do_enable(args: Namespace) -> Answer:
    status = ENABLED if args.run == "enable" else DISABLED
    with stored(args) as store:
        rows = verbs.set_status(store, args.names, status, args.create)
    lines = [f"{printable(row.plugin_name)}: {row.status} since {local(_since(row))}\n" for row in rows]
    return _either(args, [_as_json(row, args) for row in rows], "".join(lines))


do_disable = do_enable


def do_delete(args: Namespace) -> Answer:
    if sys.stdin.isatty() and not args.yes:
        _confirm(f"the row of {args.name!r} is deleted with its config; {OFF}")
    with stored(args) as store:
        deleted = store.delete(args.name)
        note = OFF if deleted else f"nothing is deleted: {verbs.unknown(store, args.name)}"
    text = f"{printable(args.name)}: deleted\n" if deleted else ""
    return _either(args, {"plugin_name": args.name, "deleted": deleted}, text, [note])


def do_config_get(args: Namespace) -> Answer:
    with stored(args) as store:
        config = verbs.existing(store, args.name).config
    if args.any_key is not None and args.any_key not in config:
        hint = near(args.any_key, config)
        raise InvalidConfigError(f"plugin {args.name!r}: no key {args.any_key!r} is stored in its config{hint}")
    value = config if args.any_key is None else config[args.any_key]
    if isinstance(value, str) and not args.json:  # escape only at a terminal
        return Answer((printable(value, keep="\n") if sys.stdout.isatty() else value) + "\n")
    return Answer(as_json(value))


def do_config_set(args: Namespace) -> Answer:
    text = verbs.given_text(args.value)
    value = text if args.text else verbs.parse_value(text)
    with stored(args) as store:
        notes = verbs.set_key(store, args.name, args.key, value, create=args.create)
    if value == text and text.startswith(("{", "[")) and not args.text:
        notes.append(f"{args.key} is stored as text: the value is not JSON, repeats a key or loses digits")
    return _keys(args, "set", [args.key], notes)


def do_config_unset(args: Namespace) -> Answer:
    with stored(args) as store:
        removed, notes = verbs.unset_keys(store, args.name, args.keys)
    return _keys(args, "unset", removed, notes)


def do_export(args: Namespace) -> Answer:
    with stored(args) as store:
        problems: list[str] = []
        if args.any_names:
            rows = [verbs.existing(store, name) for name in args.any_names]
        else:
            rows, problems = verbs.read_all(store)
    return Answer(dump_plugins(rows), problems, status=int(bool(problems)))


def do_import(args: Namespace) -> Answer:
    plugins = _read_plugins(args.file)
    if args.dry_run:
        return _changes(args, _difference(args, plugins, partial=not args.prune))
    if args.prune and not plugins and not args.yes:
        _confirm("the file holds no plugin, so --prune deletes all rows")
    with transaction(args, "importing, and waiting for transactions that write to the table") as connection:
        changes = import_plugins(connection, plugins, prune=args.prune)
    return _changes(args, changes)


def do_diff(args: Namespace) -> Answer:
    changes = _difference(args, _read_plugins(args.file))
    return _changes(args, changes, status=int(bool(changes)))


def do_sandbox(args: Namespace) -> Answer:
    from plugin_store.sandbox import sandbox

    return Answer(status=sandbox(args.command[1:] if args.command[:1] == ["--"] else args.command))


def do_demo(args: Namespace) -> Answer:
    from plugin_store.demo.play import play

    return Answer(status=play())


def _confirm(consequence: str) -> None:
    """Ask at a terminal whether to go on; PluginStoreError unless the answer is yes."""
    if sys.stdin.isatty():
        say(f"{consequence}\ngo on? [y/N] ", end="")
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
        raise PluginStoreError("nothing is changed")
    raise PluginStoreError(f"nothing is changed: {consequence}; --yes does it without asking")


def _read_plugins(file: str) -> list[PluginConfig]:
    try:
        return load_plugins(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as exc:
        raise InvalidFileError(f"cannot read {file!r}: {exc.strerror}") from exc


def _difference(args: Namespace, plugins: list[PluginConfig], *, partial: bool = False) -> list[PluginChange]:
    with stored(args) as store:
        return diff_plugins(store.get_all(), plugins, partial=partial)


def _changes(args: Namespace, made: list[PluginChange], *, status: int = 0) -> Answer:
    shown = made if args.show_values else [change.hidden() for change in made]
    values = [asdict(change) for change in shown]
    notes = [] if made or args.json else ["no difference, the table is as the file says"]
    return _either(args, values, "".join(f"{change}\n" for change in shown), notes, status)


def _keys(args: Namespace, done: str, keys: list[str], notes: list[str]) -> Answer:
    text = printable(f"{args.name}: {done} {', '.join(keys)}") + "\n" if keys else ""
    return _either(args, {"plugin_name": args.name, done: keys}, text, notes)


def _either(args: Namespace, value: Any, text: str, notes: Iterable[str] = (), status: int = 0) -> Answer:
    """Return the value as JSON with --json, else the text."""
    return Answer(as_json(value) if args.json else text, notes, status)


def _as_json(row: PluginConfig, args: Namespace) -> dict[str, Any]:
    return asdict(row if args.show_values else replace(row, config=hidden(row.config)))


def _since(row: PluginConfig) -> Any:
    return row.enabled_at if row.status == ENABLED else row.disabled_at


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{count} {status}" for status, count in sorted(value.items())]
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "this role may not read them" if value is None else str(value)
