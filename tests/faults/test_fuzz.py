"""A model of table and services against the real ones: any operations, restarts, killed connections and SQL in between.

20 runs by default; `pytest tests/faults/test_fuzz.py --hypothesis-profile=long` does 400 longer ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg.types.json import Jsonb
from recorder import Service

from plugin_store import ConflictError, DependencyError, PluginConfig, PluginConfigRepository, StoreUnavailableError

NEEDS: dict[str, tuple[str, ...]] = {
    "a": (), "b": ("a",), "c": ("a", "b"), "d": (), "e": ("c", "d"), "f": ("f",), "g": ("missing",),
}  # fmt: skip
DEFAULTS = {"x": "default", "z": 0}

names = st.sampled_from(sorted(NEEDS))
# A row without a plugin here too.
row_names = names | st.just("stranger")
statuses = st.sampled_from(["enabled", "disabled"])
keys = st.sampled_from(["x", "y", "é'; --"])
configs = st.dictionaries(keys, st.sampled_from([0, 1, True, False, None, "1", [1], {"x": {}}, 2**64]), max_size=2)
who = st.sampled_from([0, 1])


def text(config: dict[str, Any]) -> str:
    """Configs are compared as JSON, where true is not 1."""
    return json.dumps(config, sort_keys=True)


class Member:
    """A process, but for the process: a manager of its own on a pool of its own."""

    def __init__(self, url: str) -> None:
        self.cleanup = ExitStack()
        self.store = self.cleanup.enter_context(PluginConfigRepository.open(url, max_size=2, timeout=10))
        self.service = Service(self.store, NEEDS, defaults=DEFAULTS)
        self.manager = self.service.manager


class Faults(RuleBasedStateMachine):
    """``rows`` is what the table must hold; what services must have follows from it."""

    url: str
    connection: psycopg.Connection[Any]

    @initialize()
    def begin(self) -> None:
        self.connection.execute("TRUNCATE plugin_config")
        self.rows: dict[str, tuple[str, dict[str, Any]]] = {}
        self.versions: dict[str, list[datetime]] = {}
        self.members = [Member(self.url), Member(self.url)]

    def teardown(self) -> None:
        for member in self.members:
            member.cleanup.close()

    # -- the model ----------------------------------------------------------------------------

    def enabled(self, name: str, on_the_way: tuple[str, ...] = ()) -> bool:
        """Whether a service that follows has this plugin enabled."""
        if name not in NEEDS or name in on_the_way or self.rows.get(name, ("disabled",))[0] == "disabled":
            return False
        return all(self.enabled(need, (*on_the_way, name)) for need in NEEDS[name])

    def row(self, name: str) -> tuple[str, dict[str, Any]]:
        return self.rows.get(name, ("disabled", {}))

    def write(self, call: Callable[[], object]) -> None:
        """Make a write that succeeds, or fails having written nothing; then it is for the caller to repeat."""
        for _ in range(5):  # each failure takes a dead connection out of the pool
            try:
                call()
            except StoreUnavailableError:
                self.table_is_as_it_must_be()
            else:
                return
        pytest.fail("the pool does not recover")

    # -- the store ----------------------------------------------------------------------------

    @rule(who=who, name=row_names, status=statuses, config=configs | st.none())
    def save(self, who: int, name: str, status: str, config: dict[str, Any] | None) -> None:
        self.write(lambda: self.members[who].store.save(name, status, config))
        self.rows[name] = (status, self.row(name)[1] | (config or {}))

    @rule(who=who, name=row_names, config=configs)
    def save_config(self, who: int, name: str, config: dict[str, Any]) -> None:
        self.write(lambda: self.members[who].store.save_config(name, config))
        self.rows[name] = (self.row(name)[0], config)

    @rule(who=who, name=row_names, config=configs, back=st.integers(0, 3))
    def compare_and_set(self, who: int, name: str, config: dict[str, Any], back: int) -> None:
        versions = self.versions.get(name, [])
        if back >= len(versions):
            return
        expected = versions[-1 - back]

        def call() -> None:
            self.members[who].store.save_config(name, config, expected_updated_at=expected)

        if back == 0 and name in self.rows:
            self.write(call)
            self.rows[name] = (self.row(name)[0], config)
        else:
            with pytest.raises(ConflictError):
                self.write(call)

    @rule(who=who, name=row_names, changes=configs, remove=st.lists(keys, max_size=2))
    def update_config(self, who: int, name: str, changes: dict[str, Any], remove: list[str]) -> None:
        gone = [key for key in remove if key not in changes]
        self.write(lambda: self.members[who].store.update_config(name, changes, remove=gone))
        status, config = self.row(name)
        self.rows[name] = (status, {key: config[key] for key in config if key not in gone} | changes)

    @rule(who=who, name=row_names, status=statuses, config=configs)
    def add(self, who: int, name: str, status: str, config: dict[str, Any]) -> None:
        self.write(lambda: self.members[who].store.add(name, status, config))
        self.rows.setdefault(name, (status, config))

    @rule(who=who, rows=st.dictionaries(row_names, st.tuples(statuses, configs), max_size=4))
    def save_many(self, who: int, rows: dict[str, tuple[str, dict[str, Any]]]) -> None:
        self.write(lambda: self.members[who].store.save_many(PluginConfig(name, *rows[name]) for name in rows))
        self.rows |= rows

    @rule(who=who, name=row_names)
    def delete(self, who: int, name: str) -> None:
        self.write(lambda: self.members[who].store.delete(name))
        self.rows.pop(name, None)
        self.versions.pop(name, None)

    @rule(name=row_names, status=statuses, value=st.integers(0, 9))
    def save_and_update_config_at_once(self, name: str, status: str, value: int) -> None:
        with ThreadPoolExecutor(2) as threads:
            calls = [
                lambda: self.members[0].store.save(name, status),
                lambda: self.members[1].store.update_config(name, {"y": value}),
            ]
            failed = [future.exception() for future in [threads.submit(call) for call in calls]]
        # Both win; or those alone that did not fail.
        assert all(error is None or isinstance(error, StoreUnavailableError) for error in failed)
        if failed != [None, None] and name not in self.rows and all(failed):
            return
        old_status, config = self.row(name)
        new_config = config if failed[1] else config | {"y": value}
        self.rows[name] = (old_status if failed[0] else status, new_config)

    # -- people and accidents -----------------------------------------------------------------

    @rule(name=row_names, status=statuses)
    def set_the_status_in_psql(self, name: str, status: str) -> None:
        self.connection.execute("UPDATE plugin_config SET status = %s WHERE plugin_name = %s", [status, name])
        if name in self.rows:
            self.rows[name] = (status, self.rows[name][1])

    @rule(name=row_names, config=configs)
    def merge_the_config_in_psql(self, name: str, config: dict[str, Any]) -> None:
        statement = "UPDATE plugin_config SET config = config || %s WHERE plugin_name = %s"
        self.connection.execute(statement, [Jsonb(config), name])
        if name in self.rows:
            self.rows[name] = (self.rows[name][0], self.rows[name][1] | config)

    @rule(old=row_names, new=row_names)
    def rename_in_psql(self, old: str, new: str) -> None:
        if old in self.rows and new not in self.rows:
            self.connection.execute("UPDATE plugin_config SET plugin_name = %s WHERE plugin_name = %s", [new, old])
            self.rows[new] = self.rows.pop(old)
            self.versions[new] = []
            self.versions.pop(old, None)

    @rule()
    def truncate_in_psql(self) -> None:
        self.connection.execute("TRUNCATE plugin_config")
        self.rows.clear()
        self.versions.clear()

    @rule()
    def kill_all_connections(self) -> None:
        self.connection.execute(
            """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
        )

    @rule(who=who)
    def restart(self, who: int) -> None:
        self.members[who].cleanup.close()
        self.members[who] = Member(self.url)
        self.is_as_it_must_be(self.members[who].service)

    # -- the managers -------------------------------------------------------------------------

    @rule(who=who, name=names, killing=st.booleans())
    def enable(self, who: int, name: str, killing: bool) -> None:
        member, may = self.members[who], all(map(self.enabled, NEEDS[name]))
        hook = member.service[name].then
        if killing:
            hook["on_enable"] = self.kill_all_connections
        try:
            member.manager.enable_plugin(name)
        except DependencyError:
            assert not may
        except StoreUnavailableError:
            assert may and killing and not member.manager.is_enabled(name)
        else:
            assert may and member.manager.is_enabled(name)
            self.rows[name] = ("enabled", self.row(name)[1])
        finally:
            hook.clear()

    @rule(who=who, name=names, killing=st.booleans())
    def disable(self, who: int, name: str, killing: bool) -> None:
        member = self.members[who]
        may = not any(self.enabled(other) and name in NEEDS[other] for other in NEEDS)
        hook = member.service[name].then
        if killing:
            hook["on_disable"] = self.kill_all_connections
        try:
            member.manager.disable_plugin(name)
        except DependencyError:
            assert not may
        except StoreUnavailableError:
            assert killing and member.manager.is_enabled(name)
        else:
            assert not member.manager.is_enabled(name)  # the brake goes by what runs here
            self.rows[name] = ("disabled", self.row(name)[1])
        finally:
            hook.clear()

    @rule(who=who, name=names, config=configs)
    def manager_saves_a_config(self, who: int, name: str, config: dict[str, Any]) -> None:
        self.write(lambda: self.members[who].manager.save_config(name, config))
        self.rows[name] = (self.row(name)[0], config)
        assert text(self.members[who].service[name]._config) == text(DEFAULTS | config)

    @rule(who=who, name=names, config=configs)
    def manager_updates_a_config(self, who: int, name: str, config: dict[str, Any]) -> None:
        self.write(lambda: self.members[who].manager.update_config(name, config))
        self.rows[name] = (self.row(name)[0], self.row(name)[1] | config)

    @rule(who=who, name=names)
    def enable_a_default(self, who: int, name: str) -> None:
        may = name not in self.rows and all(map(self.enabled, NEEDS[name]))
        self.members[who].manager.sync()
        self.write(lambda: self.members[who].manager.enable_defaults(name))
        if may:
            self.rows[name] = ("enabled", {})

    @rule(which=st.sampled_from([(0,), (1,), (0, 1)]))
    def sync(self, which: tuple[int, ...]) -> None:
        fresh = Member(self.url)
        try:
            for number in which:
                service = self.members[number].service
                report = service.manager.sync()
                self.is_as_it_must_be(service)
                assert service.state() == fresh.service.state()
                assert set(report.restored) == set(fresh.service.report.restored) == service.enabled
                assert (report.skipped, report.failed) == (fresh.service.report.skipped, {})
        finally:
            fresh.cleanup.close()

    # -- what always holds --------------------------------------------------------------------

    def is_as_it_must_be(self, service: Service) -> None:
        assert service.enabled == {name for name in NEEDS if self.enabled(name)}
        for name, plugin in service.plugins.items():
            assert plugin.running == self.enabled(name)
            assert text(plugin._config) == text(DEFAULTS | self.row(name)[1])

    @invariant()
    def table_is_as_it_must_be(self) -> None:
        query = "SELECT plugin_name, status, config, updated_at FROM plugin_config"
        stored = {name: rest for name, *rest in self.connection.execute(query)}
        assert {name: (status, text(config)) for name, (status, config, _) in stored.items()} == {
            name: (status, text(config)) for name, (status, config) in self.rows.items()
        }
        for name, (_, _, version) in stored.items():
            known = self.versions.setdefault(name, [])
            if not known or known[-1] != version:
                assert not known or known[-1] < version
                known.append(version)


def test_store_and_managers_agree_with_a_model_whatever_happens(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    machine = type("FaultsHere", (Faults,), {"url": database_url, "connection": connection})
    examples = settings().max_examples  # of the profile
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples // 5,
            stateful_step_count=40 if examples <= 100 else 80,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
