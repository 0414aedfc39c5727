"""The clock was set back, so the stamps of rows are in the future."""

from datetime import timedelta

import pytest
from databases import Connection

from plugin_store import ConflictError, PluginConfig, PluginConfigRepository

TICK = timedelta.resolution


def stamp_in_the_future(connection: Connection) -> None:
    """Give the one row the stamps of a clock that is a year ahead."""
    connection.execute("SET session_replication_role = replica")  # without the triggers
    connection.execute(
        """UPDATE plugin_config
              SET created_at = created_at + interval '1 year', updated_at = updated_at + interval '1 year',
                  enabled_at = enabled_at + interval '1 year', disabled_at = disabled_at + interval '1 year'
        """
    )
    connection.execute("RESET session_replication_role")


def test_each_change_is_a_new_version(repository: PluginConfigRepository, connection: Connection) -> None:
    repository.save("a", "enabled", {"number": 0})
    stamp_in_the_future(connection)
    (before,) = repository.get_all()
    version = before.updated_at
    changes = [
        lambda: repository.save("a", "disabled"),
        lambda: repository.save("a", "enabled", {"number": 1}),
        lambda: repository.save_config("a", {"number": 2}),
        lambda: repository.save_config("a", {"number": 3}, expected_updated_at=version),
        lambda: repository.update_config("a", {"number": 4}, remove=["other"]),
        lambda: repository.save_many([PluginConfig("a", "disabled")]),
        lambda: connection.execute("UPDATE plugin_config SET status = 'enabled'"),
    ]
    for change in changes:
        with pytest.raises(ConflictError):
            repository.save_config("a", {}, expected_updated_at=version - TICK)
        change()
        (row,) = repository.get_all()
        assert (row.updated_at, row.created_at) == (version + TICK, before.created_at)
        if row.status != before.status:
            moved, kept = ("enabled_at", "disabled_at") if row.status == "enabled" else ("disabled_at", "enabled_at")
            assert getattr(row, moved) == row.updated_at and getattr(row, kept) == getattr(before, kept)
        assert repository.save("a", row.status) == row  # changes nothing
        before, version = row, version + TICK
