"""Rows whose stamps are of the future: what a database has after its clock was set back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from recorder import Service, raising

from plugin_store import ConflictError, PluginConfig, PluginConfigRepository
from plugin_store.testing.concurrency import at_once

TICK = timedelta(microseconds=1)


def stamp_in_the_future(connection: psycopg.Connection[Any]) -> datetime:
    """Give the one row the stamps of a clock that is a year ahead; return its version."""
    connection.execute("SET session_replication_role = replica")  # without the triggers
    row = connection.execute(
        """UPDATE plugin_config
              SET created_at = created_at + interval '1 year', updated_at = updated_at + interval '1 year',
                  enabled_at = enabled_at + interval '1 year', disabled_at = disabled_at + interval '1 year'
           RETURNING updated_at"""
    ).fetchone()
    connection.execute("RESET session_replication_role")
    assert row is not None
    version: datetime = row[0]
    assert version > datetime.now(version.tzinfo) + timedelta(days=364)
    return version


def test_each_change_is_a_new_version(repository: PluginConfigRepository, connection: psycopg.Connection[Any]) -> None:
    repository.save("a", "enabled", {"number": 0})
    version = stamp_in_the_future(connection)

    def changed() -> PluginConfig:
        (row,) = repository.get_all()
        assert row.updated_at == version + TICK  # no more than is needed
        return row

    changes = [
        lambda: repository.save("a", "disabled"),
        lambda: repository.save("a", "enabled", {"number": 1}),
        lambda: repository.save_config("a", {"number": 2}),
        lambda: repository.save_config("a", {"number": 3}, expected_updated_at=version),
        lambda: repository.update_config("a", {"number": 4}),
        lambda: repository.update_config("a", {}, remove=["number"]),
        lambda: repository.save_many([PluginConfig("a", "disabled")]),
        lambda: connection.execute("UPDATE plugin_config SET status = 'enabled'"),
    ]
    before = repository.get_by_name("a")
    for change in changes:
        change()
        row = changed()
        assert before is not None and row != before
        if row.status != before.status:
            moved, kept = ("enabled_at", "disabled_at") if row.status == "enabled" else ("disabled_at", "enabled_at")
            assert getattr(row, moved) == row.updated_at and getattr(row, kept) == getattr(before, kept)
        assert row.updated_at is not None and row.created_at == before.created_at
        before, version = row, row.updated_at
        # What changes nothing is none.
        repository.add("a", "disabled", {"other": 1})
        repository.save("a", row.status)
        assert repository.get_by_name("a") == row


def test_compare_and_set_still_works(repository: PluginConfigRepository, connection: psycopg.Connection[Any]) -> None:
    old = repository.save_config("a", {"number": 0}).updated_at
    version = stamp_in_the_future(connection)
    for stale in (old, version - TICK, version + TICK):
        with pytest.raises(ConflictError):
            repository.save_config("a", {"number": -1}, expected_updated_at=stale)
    for number in range(1, 20):
        row = repository.save_config("a", {"number": number}, expected_updated_at=version)
        with pytest.raises(ConflictError):
            repository.save_config("a", {"number": -1}, expected_updated_at=version)
        assert row.updated_at is not None
        version = row.updated_at
    assert repository.get_by_name("a").config == {"number": 19}


def test_so_does_it_of_many_at_once(pool: ConnectionPool[Any], connection: psycopg.Connection[Any]) -> None:
    repository = PluginConfigRepository(pool)
    repository.save_config("a", {"count": 0})
    stamp_in_the_future(connection)

    def count(_: int) -> None:
        for _ in range(25):
            while True:
                row = repository.get_by_name("a")
                assert row is not None
                try:
                    repository.save_config("a", {"count": row.config["count"] + 1}, expected_updated_at=row.updated_at)
                except ConflictError:
                    continue
                break

    at_once(8, count)
    assert repository.get_by_name("a").config == {"count": 200}


def test_a_service_follows_and_tries_again_what_had_failed(
    repository: PluginConfigRepository, connection: psycopg.Connection[Any]
) -> None:
    repository.save("a", "enabled")
    stamp_in_the_future(connection)
    service = Service(repository, {"a": ()})
    assert service.enabled == {"a"}
    repository.save("a", "disabled")
    service.manager.sync()
    assert service.enabled == set()
    service["a"].then["on_enable"] = raising(ValueError("not yet"))
    repository.save("a", "enabled")
    assert service.manager.sync().failed.keys() == {"a"}
    service["a"].then.clear()
    service["a"].running = False
    assert service.manager.sync().failed.keys() == {"a"}  # the same version
    repository.save_config("a", {"another": 1})
    assert service.manager.sync().restored == ["a"]
