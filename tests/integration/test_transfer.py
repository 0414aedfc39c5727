"""Plugins in a file, and on into a table; the commands are in test_cli.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from example_plugins import until

from plugin_store import (
    InvalidConfigError,
    InvalidFileError,
    PluginChange,
    PluginConfig,
    PluginConfigRepository,
    SchemaError,
    StoreError,
    diff_plugins,
    dump_plugins,
    import_plugins,
    load_plugins,
)

Connection = psycopg.Connection[Any]

MAIL = PluginConfig("mail", "enabled", {"port": 25})


def file_of(**plugins: Any) -> str:
    return json.dumps({"format": 1, "plugins": plugins})


# -- the file -----------------------------------------------------------------------------------------


def test_a_file_is_ordered_readable_and_the_same_for_the_same_state() -> None:
    rows = [PluginConfig("é", "disabled", {"b": [1, None], "a": {"y": "ü", "x": 0.5}}), PluginConfig("mail")]
    text = dump_plugins(rows)
    assert text == (
        '{\n  "format": 1,\n  "plugins": {\n    "mail": {\n      "config": {},\n      "status": "disabled"\n    },\n'
        '    "é": {\n      "config": {\n        "a": {\n          "x": 0.5,\n          "y": "ü"\n        },\n'
        '        "b": [\n          1,\n          null\n        ]\n      },\n      "status": "disabled"\n    }\n  }\n}\n'
    )
    assert dump_plugins(reversed(rows)) == text
    assert (
        load_plugins(text) == load_plugins(text.encode()) == load_plugins(b"\xef\xbb\xbf" + text.encode()) == rows[::-1]
    )


def test_a_file_moves_no_cursor_and_loses_no_character() -> None:
    rows = [PluginConfig("a\x1b[2J\n", "disabled", {"k\x9b": "\x7f\u202e\U000e0001 é"})]
    text = dump_plugins(rows)
    assert text.replace("\n", "").isprintable()
    assert load_plugins(text) == rows


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1, column 1: not JSON"),
        ('{"format": 1,\n "plugins": {,}}', "line 2, column 14: not JSON"),
        (b'{"format": 1,\n\n "\xff', "line 3: not UTF-8"),
        ('{"format": 1, "plugins": NaN}', "cannot be read: NaN is not JSON"),
        ("9" * 5000, "cannot be read: "),
        ("[" * 100_000, "cannot be read: "),
        ("[]", r"\$ must be an object, not a list"),
        ("{}", r"\$\.format is missing"),
        ('{"format": 1}', r"\$\.plugins is missing"),
        ('{"format": 1, "plugins": {}, "more": 1}', r"\$\.more is unknown: there may be format and plugins"),
        ('{"format": 2, "plugins": {}}', r"\$\.format is 2, and this plugin_store reads 1 only"),
        ('{"format": true, "plugins": {}}', r"\$\.format is True"),
        ('{"format": 1, "format": 1, "plugins": {}}', r"\$\.format is there twice"),
        ('{"format": 1, "plugins": []}', r"\$\.plugins must be an object, not a list"),
        ('{"format": 1, "plugins": {"a": 1, "a": 1}}', r"\$\.plugins\.a is there twice"),
        (file_of(a=1), r"\$\.plugins\.a must be an object, not a int"),
        (file_of(a={"status": "enabled"}), r"\$\.plugins\.a\.config is missing"),
        (file_of(a={"status": "enabled", "config": {}, "id": 1}), r"\$\.plugins\.a\.id is unknown"),
        (file_of(a={"status": "on", "config": {}}), "plugin 'a': status must be 'enabled' or 'disabled', not 'on'"),
        (file_of(a={"status": [], "config": {}}), "plugin 'a': status must be"),
        (file_of(a={"status": "enabled", "config": []}), "plugin 'a': config must be a dict"),
        (file_of(a={"status": "enabled", "config": {"b": ["\0"]}}), r"plugin 'a': config\.b\[0\] holds a NUL"),
        (file_of(**{"x" * 101: {"status": "enabled", "config": {}}}), "has 101 characters"),
        (
            '{"format": 1, "plugins": {"a": {"status": "enabled", "config": {"b": [{"c": 1, "c": 2}]}}}}',
            r"\$\.plugins\.a\.config\.b\[0\]\.c is there twice",
        ),
        ('{"format": 1, "plugins": {"a": {"status": "enabled", "config": {"b": 1e999}}}}', r"config\.b is inf"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_the_place(text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidFileError, match=problem):
        load_plugins(text)


# -- differences --------------------------------------------------------------------------------------


def test_the_changes_are_by_plugin_and_key() -> None:
    old = [PluginConfig("a", "enabled", {"x": 1, "y": None}), PluginConfig("b", "enabled", {"z": 1})]
    new = [PluginConfig("c"), PluginConfig("a", "disabled", {"x": True, "w": None})]
    assert diff_plugins(old, new) == [
        PluginChange("~", "a", "status", "enabled", "disabled"),
        PluginChange("~", "a", "config.x", 1, True),
        PluginChange("+", "a", "config.w", None, None),
        PluginChange("-", "a", "config.y", None, None),
        PluginChange("-", "b", "status", "enabled", None),
        PluginChange("-", "b", "config.z", 1, None),
        PluginChange("+", "c", "status", None, "disabled"),
    ]
    assert [change.plugin_name for change in diff_plugins(old, new[:1], partial=True)] == ["c"]


def test_a_change_is_a_line_that_moves_no_cursor() -> None:
    change = PluginChange("~", "a\x1b[2J", "config.k\n", "é\x9b", {"$env": "KEY"})
    assert str(change) == r'~ a\x1b[2J: config.k\n "é\x9b" -> {"$env": "KEY"}'


# -- the table ----------------------------------------------------------------------------------------


def test_an_import_writes_what_is_different_and_leaves_the_rest(
    connection: Connection, repository: PluginConfigRepository
) -> None:
    equal = repository.save("equal", "enabled", {"a": 1})
    other = repository.save("other", "enabled")
    repository.save("mail", "disabled", {"port": 587})
    version = "SELECT xmin::text FROM plugin_config WHERE plugin_name = 'equal'"
    written = connection.execute(version).fetchone()
    shown: list[PluginChange] = []
    made = import_plugins(connection, [MAIL, PluginConfig("equal", "enabled", {"a": 1})], show=shown.extend)
    assert (
        made
        == shown
        == [
            PluginChange("~", "mail", "status", "disabled", "enabled"),
            PluginChange("~", "mail", "config.port", 587, 25),
        ]
    )
    rows = {row.plugin_name: row for row in repository.get_all()}
    assert (rows["equal"], rows["other"]) == (equal, other)
    assert connection.execute(version).fetchone() == written
    assert (rows["mail"].status, rows["mail"].config) == ("enabled", {"port": 25})

    import_plugins(connection, [MAIL], prune=True)
    assert [row.plugin_name for row in repository.get_all()] == ["mail"]


def fail(*args: object) -> None:
    raise InvalidConfigError("no")


@pytest.mark.parametrize(
    "options",
    [
        {"plugins": [MAIL, PluginConfig("bad", "on")]},
        {"plugins": [MAIL, MAIL]},
        {"plugins": [MAIL], "check": fail},
        {"plugins": [MAIL], "show": fail},
    ],
)
def test_an_import_that_fails_changes_nothing(
    connection: Connection, repository: PluginConfigRepository, options: dict[str, Any]
) -> None:
    before = repository.save("mail", "disabled"), repository.save("other", "enabled")
    with pytest.raises(ValueError, match=r"no|status|twice"):
        import_plugins(connection, **options, prune=True)
    assert tuple(repository.get_all()) == before


def test_an_import_is_a_part_of_the_callers_transaction(database_url: str, repository: PluginConfigRepository) -> None:
    with psycopg.connect(database_url) as connection, connection.transaction():
        import_plugins(connection, [MAIL])
        assert repository.get_all() == []
    assert len(repository.get_all()) == 1


def test_a_transaction_that_sees_an_older_table_is_refused(
    database_url: str, repository: PluginConfigRepository
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM plugin_config")
        other = repository.save("other", "enabled")
        with pytest.raises(StoreError, match="import in READ COMMITTED"):
            import_plugins(connection, [MAIL], prune=True)
        connection.rollback()
        assert repository.get_all() == [other]
        # One that begins with the import sees all that is there.
        assert import_plugins(connection, [MAIL], prune=True)
    assert [row.plugin_name for row in repository.get_all()] == ["mail"]


def test_a_check_sees_each_name_and_config(connection: Connection) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    import_plugins(connection, [MAIL], check=lambda *given: seen.append(given))
    assert seen == [("mail", {"port": 25})]


def test_the_changes_that_are_shown_are_those_that_are_made_whoever_else_writes(
    connection: Connection, database_url: str, repository: PluginConfigRepository
) -> None:
    """One who writes already is waited for, one who comes while it is shown waits; readers do not."""
    repository.save("mail", "disabled", {"port": 1})
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def blocked() -> bool:
        return connection.execute(waiting).fetchone() == (1,)

    with ThreadPoolExecutor(2) as threads, psycopg.connect(database_url) as first:
        shown: list[PluginChange] = []
        later: list[Callable[[], PluginConfig]] = []

        def show(made: list[PluginChange]) -> None:
            shown.extend(made)
            later.append(threads.submit(repository.update_config, "mail", {"port": 3}).result)
            until(blocked)
            assert repository.get_by_name("mail").config == {"port": 2}

        first.execute("UPDATE plugin_config SET config = '{\"port\": 2}'")
        with psycopg.connect(database_url, autocommit=True) as own:
            importing = threads.submit(import_plugins, own, [MAIL], show=show)
            until(blocked)
            assert shown == []
            first.commit()
            importing.result(timeout=60)
        assert PluginChange("~", "mail", "config.port", 2, 25) in shown
        assert later[0]().config == {"port": 3}


def test_without_the_table_the_error_says_how_to_migrate(empty_url: str) -> None:
    with psycopg.connect(empty_url) as connection, pytest.raises(SchemaError, match="plugin-store migrate"):
        import_plugins(connection, [MAIL])
