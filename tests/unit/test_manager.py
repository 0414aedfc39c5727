"""The manager's promises, on the store in memory, which the contract suite holds to those of PostgreSQL."""

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from example_plugins import ExamplePlugin, FailingStore, HookError, Listener, raising, started, until

from plugin_store import (
    DependencyError,
    EventDispatcher,
    InMemoryPluginConfigStore,
    InvalidConfigError,
    InvalidNameError,
    PluginAlreadyRegisteredError,
    PluginConfig,
    PluginManager,
    PluginMetadata,
    PluginNotFoundError,
    PluginStateError,
    PluginStatus,
    PluginStoreError,
    StoreUnavailableError,
)
from plugin_store import Event as DispatchedEvent
from plugin_store.stores.validation import copy_json
from plugin_store.testing import _at_once

interrupts = pytest.mark.parametrize(
    "error", [HookError("no"), KeyboardInterrupt(), SystemExit()], ids=["error", "interrupt", "exit"]
)


def status(store: InMemoryPluginConfigStore, name: str = "analytics") -> str | None:
    row = InMemoryPluginConfigStore.get_by_name(store, name)
    return row and row.status


def config(store: InMemoryPluginConfigStore, name: str = "analytics") -> dict[str, Any] | None:
    row = InMemoryPluginConfigStore.get_by_name(store, name)
    return row and row.config


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def store(log: list[str]) -> FailingStore:
    return FailingStore(log)


@pytest.fixture
def plugin(log: list[str]) -> ExamplePlugin:
    return ExamplePlugin(log=log)


@pytest.fixture
def manager(store: FailingStore, plugin: ExamplePlugin, log: list[str]) -> PluginManager:
    """A manager with one plugin, initialized, with nothing logged yet."""
    manager = started(store, plugin)
    log.clear()
    return manager


@pytest.fixture
def listener(manager: PluginManager, log: list[str]) -> Listener:
    return Listener(manager, log)


class TestRegister:
    def test_a_registered_plugin_is_known_and_announced(self) -> None:
        manager = PluginManager()
        listener, plugin = Listener(manager), ExamplePlugin()
        assert plugin.status is PluginStatus.DISCOVERED
        manager.register_plugin(plugin)
        assert plugin.status is PluginStatus.REGISTERED
        assert manager.get_plugin("analytics") is plugin
        assert listener.events == [("registered", "analytics")]

    def test_a_second_one_of_that_name_is_refused(self) -> None:
        manager, first, second = PluginManager(), ExamplePlugin(), ExamplePlugin()
        manager.register_plugin(first)
        listener = Listener(manager)
        for plugin in (second, first):
            with pytest.raises(PluginAlreadyRegisteredError, match="'analytics' already registered") as caught:
                manager.register_plugin(plugin)
            assert isinstance(caught.value, ValueError)
        assert manager.get_all_plugins() == [first]
        assert second.status is PluginStatus.DISCOVERED
        assert listener.events == []

    @pytest.mark.parametrize("name", ["", "x" * 101, "a\0"])
    def test_a_name_that_cannot_be_stored_is_refused(self, name: str) -> None:
        manager = PluginManager()
        with pytest.raises(InvalidNameError):
            manager.register_plugin(ExamplePlugin(name))
        assert manager.get_all_plugins() == []

    def test_a_plugin_that_was_initialized_before_stays_so_with_its_defaults(self) -> None:
        plugin, store = ExamplePlugin(), InMemoryPluginConfigStore()
        plugin.initialize({"a": 1})
        store.save("analytics", "disabled", {"b": 2})
        manager = PluginManager(config_repo=store)
        manager.register_plugin(plugin)
        assert plugin.status is PluginStatus.INITIALIZED
        manager.enable_plugin("analytics")
        assert plugin._config == {"a": 1, "b": 2}

    def test_registering_touches_no_store(self, store: FailingStore) -> None:
        started(store, ExamplePlugin())
        assert store.log == []


class TestInitialize:
    def test_an_initialized_plugin_has_its_config_and_is_announced(self) -> None:
        manager, plugin = PluginManager(), ExamplePlugin()
        manager.register_plugin(plugin)
        listener = Listener(manager)
        manager.initialize_plugin("analytics", {"interval": 5})
        assert plugin.status is PluginStatus.INITIALIZED
        assert plugin.get_config("interval") == 5
        assert listener.events == [("initialized", "analytics")]

    def test_without_a_config_it_has_an_empty_one(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        assert plugin._config == {}
        assert plugin.get_config("interval") is None
        assert plugin.get_config("interval", 7) == 7

    def test_the_config_is_a_copy(self) -> None:
        plugin, given = ExamplePlugin(), {"list": [1]}
        plugin.initialize(given)
        given["list"].append(2)
        assert plugin.get_config("list") == [1]

    def test_an_unknown_plugin_is_not_found(self, manager: PluginManager) -> None:
        with pytest.raises(PluginNotFoundError, match="'unknown' not found: registered are 'analytics'"):
            manager.initialize_plugin("unknown")
        with pytest.raises(PluginNotFoundError, match="registered are none"):
            PluginManager().initialize_plugin("unknown")

    @pytest.mark.parametrize("config", ["text", [], 0])
    def test_a_config_that_is_no_dict_is_refused(self, manager: PluginManager, config: Any) -> None:
        with pytest.raises(InvalidConfigError, match="plugin 'analytics': config must be a dict, not "):
            manager.initialize_plugin("analytics", config)

    def test_one_dependency_may_be_given_as_a_str(self) -> None:
        metadata = PluginMetadata("a", "1", "b", "c", dependencies="auth")  # type: ignore[arg-type]
        assert metadata.dependencies == ["auth"]

    def test_an_enabled_plugin_is_not_initialized_again(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("a", 1)
        listener = Listener(manager)
        with pytest.raises(PluginStateError, match=r"Cannot initialize.*disable it first"):
            manager.initialize_plugin("analytics")
        assert plugin._config == {"a": 1}
        assert listener.events == []

    def test_a_disabled_plugin_may_be_initialized_again(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        manager.initialize_plugin("analytics", {"a": 2})
        assert plugin.status is PluginStatus.INITIALIZED
        assert plugin._config == {"a": 2}

    def test_what_initialize_raises_goes_to_the_caller(self) -> None:
        class Broken(ExamplePlugin):
            def initialize(self, config: dict[str, Any] | None = None) -> None:
                raise HookError

        manager, plugin = PluginManager(), Broken()
        manager.register_plugin(plugin)
        listener = Listener(manager)
        with pytest.raises(HookError):
            manager.initialize_plugin("analytics")
        assert plugin.status is PluginStatus.REGISTERED
        assert listener.events == []


class TestEnable:
    def test_reads_runs_the_hook_stores_and_announces_in_this_order(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, log: list[str]
    ) -> None:
        manager.enable_plugin("analytics")
        assert log == ["get_all", "get_by_name", "on_enable", "save", "plugin.enabled"]
        assert listener.events == [("enabled", "analytics", "local")]
        assert plugin.status is PluginStatus.ENABLED

    def test_the_row_says_enabled(self, manager: PluginManager, store: FailingStore) -> None:
        manager.enable_plugin("analytics")
        assert status(store) == "enabled"

    def test_an_unknown_plugin_is_not_found(self, manager: PluginManager, store: FailingStore) -> None:
        with pytest.raises(PluginNotFoundError, match="not found"):
            manager.enable_plugin("unknown")
        assert store.log == []

    def test_one_that_was_never_initialized_cannot_be_enabled(self, store: FailingStore) -> None:
        manager, plugin = PluginManager(config_repo=store), ExamplePlugin()
        manager.register_plugin(plugin)
        listener = Listener(manager)
        with pytest.raises(PluginStateError, match=r"Cannot enable plugin 'analytics'.*initialize it first"):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.REGISTERED
        assert (plugin.log, listener.events, status(store)) == ([], [], None)

    def test_one_that_was_never_registered_cannot_be_enabled(self) -> None:
        with pytest.raises(PluginStateError, match="Cannot enable"):
            ExamplePlugin().enable()

    def test_may_be_repeated(self, manager: PluginManager, listener: Listener, store: FailingStore) -> None:
        manager.enable_plugin("analytics")
        store.save("analytics", "disabled")  # by another process
        manager.enable_plugin("analytics")
        assert store.log.count("on_enable") == 1
        assert listener.events == [("enabled", "analytics", "local")]
        assert status(store) == "enabled"

    def test_a_disabled_plugin_can_be_enabled_again(self, manager: PluginManager, listener: Listener) -> None:
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        manager.enable_plugin("analytics")
        assert [what for what, *_ in listener.events] == ["enabled", "disabled", "enabled"]

    def test_a_dependency_must_be_enabled(self, store: FailingStore) -> None:
        parent, child = ExamplePlugin("parent"), ExamplePlugin("child", "parent")
        manager = started(store, parent, child)
        listener = Listener(manager)
        with pytest.raises(DependencyError, match="Cannot enable plugin 'child': Dependency 'parent' not enabled"):
            manager.enable_plugin("child")
        assert (child.log, listener.events, status(store, "child")) == ([], [], None)
        assert child.status is PluginStatus.INITIALIZED
        manager.enable_plugin("parent")
        manager.enable_plugin("child")
        assert child.status is PluginStatus.ENABLED

    def test_a_dependency_must_exist(self) -> None:
        manager = started(None, ExamplePlugin("child", "missing"))
        with pytest.raises(DependencyError, match="Dependency 'missing' not enabled"):
            manager.enable_plugin("child")

    def test_dependencies_may_be_none(self) -> None:
        assert PluginMetadata("a", "1", "Ada", "…", None).dependencies == []
        plugin = ExamplePlugin()
        plugin.metadata.dependencies = None
        started(None, plugin).enable_plugin("analytics")

    def test_the_config_is_brought_up_to_date_before_the_dependencies_are_checked(self, store: FailingStore) -> None:
        child = ExamplePlugin("child", "parent")
        manager = started(store, child)
        store.save_config("child", {"a": 1})
        with pytest.raises(DependencyError):
            manager.enable_plugin("child")
        assert child._config == {"a": 1}

    @interrupts
    def test_a_failing_hook_stores_nothing_and_leaves_error(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        error: BaseException,
    ) -> None:
        plugin.fail("on_enable", error=error)
        with pytest.raises(type(error)) as caught:
            manager.enable_plugin("analytics")
        assert caught.value is error
        assert plugin.status is PluginStatus.ERROR
        assert (listener.events, store.saved, status(store)) == ([], [], None)
        plugin.fail()
        manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ENABLED
        assert listener.events == [("enabled", "analytics", "local")]
        assert status(store) == "enabled"

    def test_a_failing_hook_leaves_the_row_as_it_was(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        before = store.save("analytics", "disabled", {"a": 1})
        plugin.fail("on_enable")
        with pytest.raises(HookError):
            manager.enable_plugin("analytics")
        assert store.get_by_name("analytics") == before

    @pytest.mark.parametrize("was", [PluginStatus.INITIALIZED, PluginStatus.DISABLED, PluginStatus.ERROR])
    def test_if_storing_fails_the_hook_is_undone_and_nothing_announced(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, was: PluginStatus
    ) -> None:
        plugin._status = was
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError, match="the database is away"):
            manager.enable_plugin("analytics")
        assert store.log == ["get_all", "get_by_name", "on_enable", "save", "on_disable"]
        assert plugin.status is was
        assert (listener.events, status(store)) == ([], None)
        store.fails = set()
        manager.enable_plugin("analytics")
        assert status(store) == "enabled"

    def test_an_interrupt_while_storing_undoes_the_hook(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.before["save"] = raising(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            manager.enable_plugin("analytics")
        assert store.log[-1] == "on_disable"
        assert plugin.status is PluginStatus.INITIALIZED
        assert listener.events == []

    def test_if_undoing_fails_too_the_plugin_is_in_error_and_the_stores_error_goes_to_the_caller(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        store.fails = {"save"}
        plugin.fail("on_disable")
        with pytest.raises(StoreUnavailableError):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert listener.events == []
        assert "'analytics'" in caplog.text and "HookError" in caplog.text

    def test_an_interrupt_while_undoing_goes_to_the_caller(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.fails = {"save"}
        plugin.fail("on_disable", error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert listener.events == []

    def test_if_the_store_cannot_be_read_nothing_is_done(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.fails = {"get_by_name"}
        with pytest.raises(StoreUnavailableError):
            manager.enable_plugin("analytics")
        assert store.log == ["get_all", "get_by_name"]
        assert plugin.status is PluginStatus.INITIALIZED

    def test_if_storing_again_fails_an_enabled_plugin_stays_enabled(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ENABLED
        assert listener.enabled == {"analytics"}
        assert "on_disable" not in store.log

    def test_what_a_hook_put_into_the_config_and_cannot_be_stored_undoes_the_hook(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        plugin.on["on_enable"] = lambda: plugin.set_config("bad", {1, 2})
        with pytest.raises(InvalidConfigError, match=r"config\.bad is a set"):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.INITIALIZED
        assert status(store) is None


class TestDisable:
    def test_reads_runs_the_hook_stores_and_announces_in_this_order(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, log: list[str]
    ) -> None:
        manager.enable_plugin("analytics")
        log.clear()
        manager.disable_plugin("analytics")
        assert log == ["get_all", "get_by_name", "on_disable", "save", "plugin.disabled"]
        assert listener.events[1:] == [("disabled", "analytics", "local")]
        assert plugin.status is PluginStatus.DISABLED

    def test_the_row_says_disabled(self, manager: PluginManager, store: FailingStore) -> None:
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        assert status(store) == "disabled"

    def test_an_unknown_plugin_is_not_found(self, manager: PluginManager) -> None:
        with pytest.raises(PluginNotFoundError, match="not found"):
            manager.disable_plugin("unknown")

    def test_may_be_repeated(self, manager: PluginManager, listener: Listener, store: FailingStore) -> None:
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        store.save("analytics", "enabled")  # by another process
        manager.disable_plugin("analytics")
        assert store.log.count("on_disable") == 1
        assert listener.events[1:] == [("disabled", "analytics", "local")]
        assert status(store) == "disabled"

    @pytest.mark.parametrize("was", [PluginStatus.INITIALIZED, PluginStatus.ERROR])
    def test_one_that_is_not_enabled_runs_no_hook_and_the_row_says_disabled(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, was: PluginStatus
    ) -> None:
        plugin._status = was
        manager.disable_plugin("analytics")
        assert store.log == ["get_all", "get_by_name", "save"]
        assert plugin.status is PluginStatus.DISABLED
        assert (listener.events, status(store)) == ([], "disabled")

    def test_one_that_was_never_initialized_keeps_its_status_and_the_row_says_disabled(
        self, store: FailingStore
    ) -> None:
        manager, plugin = PluginManager(config_repo=store), ExamplePlugin()
        manager.register_plugin(plugin)
        manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.REGISTERED
        assert status(store) == "disabled"

    def test_is_refused_while_enabled_plugins_depend_on_it(self, store: FailingStore) -> None:
        parent, child, other = (
            ExamplePlugin("parent"),
            ExamplePlugin("child", "parent"),
            ExamplePlugin("other", "parent"),
        )
        manager = started(store, parent, child, other)
        manager.enable_plugin("parent")
        manager.enable_plugin("child")
        listener = Listener(manager)
        with pytest.raises(DependencyError, match=r"Cannot disable plugin 'parent': plugins \['child'\] depend on it"):
            manager.disable_plugin("parent")
        assert parent.log == ["on_enable"]
        assert (listener.events, status(store, "parent")) == ([], "enabled")
        manager.disable_plugin("child")
        manager.disable_plugin("parent")
        assert status(store, "parent") == "disabled"

    @interrupts
    def test_if_the_hook_fails_the_row_is_stored_as_disabled_all_the_same(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        error: BaseException,
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.fail("on_disable", error=error)
        with pytest.raises(type(error)) as caught:
            manager.disable_plugin("analytics")
        assert caught.value is error
        assert plugin.status is PluginStatus.ERROR
        assert status(store) == "disabled"
        assert listener.events[1:] == [("disabled", "analytics", "local")]
        plugin.fail()
        manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ENABLED

    def test_if_storing_fails_the_hook_is_undone_and_nothing_announced(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.log.clear()
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert store.log == ["get_all", "get_by_name", "on_disable", "save", "on_enable"]
        assert plugin.status is PluginStatus.ENABLED
        assert listener.enabled == {"analytics"}
        assert status(store) == "enabled"

    def test_a_config_that_cannot_be_stored_does_not_keep_it_enabled(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        manager.enable_plugin("analytics")
        before = config(store)
        plugin.set_config("bad", float("nan"))
        manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.DISABLED
        assert (status(store), config(store), listener.enabled) == ("disabled", before, set())
        assert "config.bad is nan" in caplog.text

    @pytest.mark.parametrize("was", [PluginStatus.INITIALIZED, PluginStatus.DISABLED, PluginStatus.ERROR])
    def test_if_storing_fails_one_that_is_not_enabled_is_as_it_was(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, was: PluginStatus
    ) -> None:
        plugin._status = was
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert plugin.status is was
        assert store.log == ["get_all", "get_by_name", "save"]

    def test_if_undoing_fails_too_the_plugin_is_in_error_and_listeners_know(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        manager.enable_plugin("analytics")
        store.fails = {"save"}
        plugin.fail("on_enable")
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert listener.enabled == set()
        assert "'analytics'" in caplog.text and "HookError" in caplog.text

    def test_an_interrupt_while_undoing_goes_to_the_caller_and_listeners_know(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.fails = {"save"}
        plugin.fail("on_enable", error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert listener.enabled == set()

    def test_if_hook_and_store_both_fail_there_is_no_way_back_and_listeners_know(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        manager.enable_plugin("analytics")
        store.fails = {"save"}
        plugin.fail("on_disable")
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert listener.enabled == set()
        assert "HookError" in caplog.text
        assert store.log.count("on_enable") == 1

    @pytest.mark.parametrize("method", ["get_all", "get_by_name"])
    def test_if_the_store_cannot_be_read_nothing_is_done(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, method: str
    ) -> None:
        manager.enable_plugin("analytics")
        store.fails, store.log = {method}, []
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.ENABLED
        assert listener.enabled == {"analytics"}
        assert store.log[-1] == method


class TestWhatIsStored:
    def test_the_first_time_the_config_is(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        manager = started(store, plugin, interval=5)
        manager.enable_plugin("analytics")
        assert store.saved == [("save", "analytics", "enabled", {"interval": 5})]

    def test_an_unchanged_config_is_not(self, manager: PluginManager, store: FailingStore) -> None:
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        manager.enable_plugin("analytics")
        assert store.saved[1:] == [("save", "analytics", "disabled", None), ("save", "analytics", "enabled", None)]

    def test_an_old_config_is_not_written_over_a_newer_one(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.save_config("analytics", {"by": "another process"})
        manager.disable_plugin("analytics")
        assert config(store) == {"by": "another process"}
        assert plugin._config == {"by": "another process"}

    def test_not_even_over_one_that_came_after_the_row_was_read(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "disabled", {"old": 1})
        store.before["save"] = lambda: InMemoryPluginConfigStore.save_config(store, "analytics", {"newer": 1})
        manager.enable_plugin("analytics")
        assert config(store) == {"newer": 1}

    def test_changes_by_set_config_are_stored_at_the_next_enable(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "disabled", {"a": 1})
        plugin.set_config("b", 2)
        assert config(store) == {"a": 1}
        manager.enable_plugin("analytics")
        assert config(store) == {"a": 1, "b": 2}
        assert plugin._config == {"a": 1, "b": 2}

    def test_changes_by_set_config_are_stored_at_the_next_disable(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("b", 2)
        manager.disable_plugin("analytics")
        assert config(store) == {"b": 2}

    def test_changes_by_the_hooks_are_stored(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "disabled", {"a": 1})
        plugin.on["on_enable"] = lambda: plugin.set_config("started", 1)
        manager.enable_plugin("analytics")
        assert config(store) == {"a": 1, "started": 1}

    def test_stored_changes_are_no_changes_any_more(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("a", 1)
        manager.enable_plugin("analytics")
        store.save_config("analytics", {"a": 2})
        manager.enable_plugin("analytics")
        assert plugin._config == {"a": 2}
        assert store.saved[-1] == ("save", "analytics", "enabled", None)

    def test_changes_that_could_not_be_stored_are_stored_the_next_time(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("a", 1)
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.enable_plugin("analytics")
        store.fails = set()
        manager.enable_plugin("analytics")
        assert config(store) == {"a": 1}

    def test_a_change_deep_in_the_config_is_noticed(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"mail": {"ports": [25]}})
        manager.load_persisted_state()
        plugin.get_config("mail")["ports"].append(465)
        manager.disable_plugin("analytics")
        assert config(store) == {"mail": {"ports": [25, 465]}}

    def test_a_key_that_was_taken_out_is_noticed(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": 2})
        manager.load_persisted_state()
        del plugin._config["a"]
        manager.disable_plugin("analytics")
        assert config(store) == {"b": 2}

    @pytest.mark.parametrize(("old", "new"), [(1, True), (True, 1), (0, False), ([0], [False])])
    def test_a_number_that_became_a_truth_value_is_noticed(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, old: Any, new: Any
    ) -> None:
        store.save("analytics", "enabled", {"debug": old})
        manager.load_persisted_state()
        plugin.set_config("debug", new)
        manager.enable_plugin("analytics")
        assert repr(config(store)) == repr({"debug": new})

    def test_local_changes_and_those_of_another_process_are_both_kept(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": 1, "c": 1, "d": 1})
        manager.load_persisted_state()
        plugin.set_config("a", 2)
        del plugin._config["c"]
        store.save_config("analytics", {"a": 1, "b": 2, "c": 1, "e": 2})
        manager.enable_plugin("analytics")
        assert plugin._config == config(store) == {"a": 2, "b": 2, "e": 2}

    def test_where_both_changed_one_key_the_local_change_wins(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": 1})
        manager.load_persisted_state()
        plugin.set_config("a", "here")
        del plugin._config["b"]
        store.save_config("analytics", {"a": "there", "b": "there"})
        manager.enable_plugin("analytics")
        assert plugin._config == config(store) == {"a": "here"}

    def test_what_is_stored_is_a_copy(self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore) -> None:
        plugin.set_config("list", [1])
        manager.enable_plugin("analytics")
        given = store.saved[0][3]
        given["list"].append(2)
        assert plugin.get_config("list") == [1]

    def test_without_a_store_the_config_stays_in_memory(self, plugin: ExamplePlugin) -> None:
        manager = started(None, plugin, a=1)
        plugin.set_config("b", 2)
        manager.enable_plugin("analytics")
        manager.disable_plugin("analytics")
        assert plugin._config == {"a": 1, "b": 2}


class TestDefaultsAndStoredConfig:
    def test_the_rows_config_is_laid_over_the_defaults_key_by_key(
        self, store: FailingStore, plugin: ExamplePlugin
    ) -> None:
        manager = started(store, plugin, interval=5, mail={"host": "a", "port": 25})
        store.save("analytics", "disabled", {"mail": {"host": "b"}, "more": 1})
        manager.enable_plugin("analytics")
        assert plugin._config == {"interval": 5, "mail": {"host": "b"}, "more": 1}
        assert config(store) == {"mail": {"host": "b"}, "more": 1}

    def test_a_key_that_is_stored_no_more_falls_back_to_its_default(
        self, store: FailingStore, plugin: ExamplePlugin
    ) -> None:
        manager = started(store, plugin, interval=5)
        store.save("analytics", "enabled", {"interval": 9, "more": 1})
        manager.load_persisted_state()
        assert plugin._config == {"interval": 9, "more": 1}
        store.save_config("analytics", {})
        manager.load_persisted_state()
        assert plugin._config == {"interval": 5}

    def test_the_config_of_a_deleted_row_is_gone(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        manager = started(store, plugin, interval=5)
        store.save("analytics", "disabled", {"more": 1})
        manager.load_persisted_state()
        store.delete("analytics")
        manager.enable_plugin("analytics")
        assert plugin._config == config(store) == {"interval": 5}

    def test_stored_values_and_defaults_are_copied(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        manager = started(store, plugin, defaults=[1])
        store.save("analytics", "disabled", {"stored": [1]})
        manager.load_persisted_state()
        plugin.get_config("defaults").append(2)
        plugin.get_config("stored").append(2)
        manager.save_config("analytics", {"stored": [3]})
        assert plugin._config == {"defaults": [1], "stored": [3]}

    def test_a_config_that_changed_in_the_store_is_announced_and_told_to_a_running_plugin(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.save_config("analytics", {"a": 1})
        store.log.clear()
        manager.enable_plugin("analytics")
        assert plugin.changes == [({}, {"a": 1})]
        assert listener.events[1:] == [("config_changed", "analytics", "stored")]
        assert store.log == ["get_all", "get_by_name", "on_config_changed", "plugin.config_changed", "save"]

    def test_a_plugin_that_does_not_run_is_not_told(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save_config("analytics", {"a": 1})
        manager.disable_plugin("analytics")
        assert plugin.changes == []
        assert listener.events == [("config_changed", "analytics", "stored")]

    def test_what_a_plugin_is_told_are_copies(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        manager.save_config("analytics", {"list": [1]})
        plugin.changes[0][1]["list"].append(2)
        manager.disable_plugin("analytics")
        assert plugin._config == config(store) == {"list": [1]}

    @pytest.mark.parametrize(("old", "new"), [(1, True), (True, 1), (0, False)])
    def test_a_stored_number_that_became_a_truth_value_arrives(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, old: Any, new: Any
    ) -> None:
        store.save("analytics", "enabled", {"debug": old})
        manager.load_persisted_state()
        store.save_config("analytics", {"debug": new})
        manager.load_persisted_state()
        assert plugin.get_config("debug") is new

    def test_a_plugin_that_cannot_take_a_change_is_in_error_and_enabled_again_by_enable(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        listener: Listener,
        store: FailingStore,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        manager.enable_plugin("analytics")
        store.save_config("analytics", {"a": 1})
        plugin.fail("on_config_changed")
        manager.enable_plugin("analytics")
        assert [what for what, *_ in listener.events] == ["enabled", "config_changed", "disabled", "enabled"]
        assert plugin.status is PluginStatus.ENABLED
        assert plugin._config == {"a": 1}
        assert "on_config_changed" in caplog.text and "HookError" in caplog.text

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()], ids=["interrupt", "exit"])
    def test_an_interrupt_while_it_takes_one_leaves_error_and_goes_to_the_caller(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, error: BaseException
    ) -> None:
        manager.enable_plugin("analytics")
        listener = Listener(manager, enabled=["analytics"])
        plugin.fail("on_config_changed", error=error)
        with pytest.raises(type(error)):
            manager.save_config("analytics", {"a": 1})
        assert (plugin.status, config(store)) == (PluginStatus.ERROR, {"a": 1})
        assert listener.enabled == set()

    def test_a_plugin_that_cannot_take_a_change_can_be_disabled(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.save_config("analytics", {"a": 1})
        plugin.fail("on_config_changed")
        manager.disable_plugin("analytics")
        assert plugin.status is PluginStatus.DISABLED
        assert listener.enabled == set()
        assert status(store) == "disabled"


class TestSaveConfig:
    def test_stores_and_applies_and_announces(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.log.clear()
        manager.save_config("analytics", {"a": 1})
        assert store.log == ["save_config", "on_config_changed", "plugin.config_changed"]
        assert config(store) == plugin._config == {"a": 1}
        assert plugin.changes == [({}, {"a": 1})]
        assert listener.events[1:] == [("config_changed", "analytics", "local")]
        assert status(store) == "enabled"

    def test_the_hook_finds_the_new_values(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        manager.enable_plugin("analytics")
        found = []
        plugin.on["on_config_changed"] = lambda: found.append(plugin.get_config("a"))
        manager.save_config("analytics", {"a": 1})
        assert found == [1]

    def test_of_a_plugin_without_a_row_makes_a_disabled_one(self, manager: PluginManager, store: FailingStore) -> None:
        manager.save_config("analytics", {"a": 1})
        assert status(store) == "disabled"

    def test_replaces_the_stored_config_and_does_not_store_defaults(
        self, store: FailingStore, plugin: ExamplePlugin
    ) -> None:
        manager = started(store, plugin, interval=5)
        manager.save_config("analytics", {"a": 1})
        manager.save_config("analytics", {"b": 2})
        assert config(store) == {"b": 2}
        assert plugin._config == {"interval": 5, "b": 2}

    def test_replaces_local_changes_too(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("a", "set here")
        plugin.set_config("b", "set here")
        manager.save_config("analytics", {"a": "saved"})
        assert plugin._config == config(store) == {"a": "saved"}
        manager.disable_plugin("analytics")
        assert config(store) == {"a": "saved"}

    def test_a_config_that_is_no_change_is_not_announced(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener
    ) -> None:
        manager.enable_plugin("analytics")
        manager.save_config("analytics", {"a": 1})
        manager.save_config("analytics", {"a": 1})
        assert len(plugin.changes) == 1
        assert len(listener.events) == 2

    def test_a_plugin_that_does_not_run_is_not_told(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener
    ) -> None:
        manager.save_config("analytics", {"a": 1})
        assert plugin.changes == []
        assert listener.events == [("config_changed", "analytics", "local")]

    def test_the_config_is_copied(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        given = {"list": [1]}
        manager.save_config("analytics", given)
        given["list"].append(2)
        assert plugin.get_config("list") == [1]

    def test_an_unknown_plugin_is_not_found(self, manager: PluginManager, store: FailingStore) -> None:
        with pytest.raises(PluginNotFoundError):
            manager.save_config("unknown", {})
        assert store.log == []

    @pytest.mark.parametrize("with_store", [True, False])
    def test_a_config_that_cannot_be_stored_is_refused(
        self, store: FailingStore, plugin: ExamplePlugin, with_store: bool
    ) -> None:
        manager = started(store if with_store else None, plugin)
        listener = Listener(manager)
        with pytest.raises(InvalidConfigError, match=r"plugin 'analytics': config\.a is a set"):
            manager.save_config("analytics", {"a": {1}})
        with pytest.raises(InvalidConfigError, match="must be a dict"):
            manager.save_config("analytics", None)  # type: ignore[arg-type]  # what is being tested
        assert (plugin._config, listener.events, store.log) == ({}, [], [])

    def test_a_config_that_the_plugin_refuses_is_not_stored(
        self, store: FailingStore, listener: Listener, manager: PluginManager, plugin: ExamplePlugin
    ) -> None:
        def validate(config: dict[str, Any]) -> None:
            if config["interval"] <= 0:
                raise ValueError("interval must be positive")

        plugin.validate_config = validate  # type: ignore[method-assign]
        with pytest.raises(
            InvalidConfigError, match="plugin 'analytics' refuses this config: interval must be positive"
        ) as caught:
            manager.save_config("analytics", {"interval": 0})
        assert isinstance(caught.value.__cause__, ValueError)
        assert (plugin._config, listener.events, store.log) == ({}, [], [])
        manager.save_config("analytics", {"interval": 1})
        assert config(store) == {"interval": 1}

    def test_the_plugin_validates_what_it_will_have_and_cannot_change_it(
        self, store: FailingStore, plugin: ExamplePlugin
    ) -> None:
        manager, seen = started(store, plugin, interval=5), []

        def validate(config: dict[str, Any]) -> None:
            seen.append(copy_json(config))
            config["list"].append(2)

        plugin.validate_config = validate  # type: ignore[method-assign]
        manager.save_config("analytics", {"list": [1]})
        assert seen == [{"interval": 5, "list": [1]}]
        assert config(store) == {"list": [1]}
        assert plugin.get_config("list") == [1]

    def test_another_error_of_validate_config_goes_to_the_caller(
        self, store: FailingStore, manager: PluginManager, plugin: ExamplePlugin
    ) -> None:
        def validate(config: dict[str, Any]) -> None:
            raise HookError

        plugin.validate_config = validate  # type: ignore[method-assign]
        with pytest.raises(HookError):
            manager.save_config("analytics", {})
        assert store.log == []

    def test_if_storing_fails_nothing_is_changed(
        self, store: FailingStore, manager: PluginManager, plugin: ExamplePlugin, listener: Listener
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.set_config("a", 1)
        store.fails = {"save_config"}
        with pytest.raises(StoreUnavailableError):
            manager.save_config("analytics", {"a": 2})
        assert plugin._config == {"a": 1}
        assert plugin.changes == []
        assert len(listener.events) == 1
        manager.disable_plugin("analytics")
        assert config(store) == {"a": 1}

    def test_if_the_hook_fails_the_config_is_stored_and_the_plugin_in_error(
        self, store: FailingStore, manager: PluginManager, plugin: ExamplePlugin, listener: Listener
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.fail("on_config_changed")
        with pytest.raises(HookError):
            manager.save_config("analytics", {"a": 1})
        assert plugin.status is PluginStatus.ERROR
        assert config(store) == plugin._config == {"a": 1}
        assert listener.events[1:] == [("config_changed", "analytics", "local"), ("disabled", "analytics", "local")]

    def test_works_without_a_store(self, plugin: ExamplePlugin) -> None:
        manager = started(None, plugin, interval=5)
        manager.enable_plugin("analytics")
        manager.save_config("analytics", {"a": 1})
        manager.disable_plugin("analytics")
        manager.enable_plugin("analytics")
        assert plugin._config == {"interval": 5, "a": 1}


class TestUpdateConfig:
    def test_changes_keys_of_the_stored_config_and_applies_and_announces(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1, "b": 1, "c": 1})
        manager.load_persisted_state()
        listener.events.clear()
        store.log.clear()
        manager.update_config("analytics", {"a": 2, "d": 2}, remove=["b"])
        assert store.log[-3:] == ["update_config", "on_config_changed", "plugin.config_changed"]
        assert config(store) == plugin._config == {"a": 2, "c": 1, "d": 2}
        assert plugin.changes == [({"a": 1, "b": 1, "c": 1}, {"a": 2, "c": 1, "d": 2})]
        assert listener.events == [("config_changed", "analytics", "local")]
        assert status(store) == "enabled"

    def test_keys_that_another_process_writes_stay(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.before["update_config"] = lambda: InMemoryPluginConfigStore.update_config(store, "analytics", {"b": 2})
        manager.update_config("analytics", {"a": 1})
        assert config(store) == plugin._config == {"a": 1, "b": 2}

    def test_stores_no_default_and_falls_back_to_it(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        manager = started(store, plugin, interval=5, limit=9)
        manager.update_config("analytics", {"interval": 6})
        assert config(store) == {"interval": 6}
        assert plugin._config == {"interval": 6, "limit": 9}
        manager.update_config("analytics", {}, remove=["interval", "limit"])
        assert config(store) == {}
        assert plugin._config == {"interval": 5, "limit": 9}

    def test_of_a_plugin_without_a_row_makes_a_disabled_one(self, manager: PluginManager, store: FailingStore) -> None:
        manager.update_config("analytics", {"a": 1})
        assert (status(store), config(store)) == ("disabled", {"a": 1})

    def test_the_plugin_validates_what_it_will_have(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        manager, seen = started(store, plugin, interval=5), []

        def validate(config: dict[str, Any]) -> None:
            seen.append(config)
            raise ValueError("never good")

        plugin.validate_config = validate  # type: ignore[method-assign]
        before = store.save("analytics", "enabled", {"a": 1, "b": 1})
        listener = Listener(manager)
        with pytest.raises(InvalidConfigError, match="plugin 'analytics' refuses this config: never good"):
            manager.update_config("analytics", {"c": 2}, remove=["b"])
        assert seen == [{"interval": 5, "a": 1, "c": 2}]
        assert (store.get_all(), listener.events) == ([before], [])
        assert plugin._config == {"interval": 5}

    def test_what_cannot_be_stored_is_refused(self, manager: PluginManager, store: FailingStore) -> None:
        bad: list[tuple[Any, Any]] = [({"a": {1}}, []), ({}, "abc"), ({"a": 1}, ["a"]), ({}, [1])]
        for changes, remove in bad:
            with pytest.raises(InvalidConfigError, match="plugin 'analytics': "):
                manager.update_config("analytics", changes, remove=remove)
        with pytest.raises(PluginNotFoundError):
            manager.update_config("unknown", {})
        assert store.log == []

    def test_if_storing_fails_nothing_is_changed(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.fails = {"update_config"}
        with pytest.raises(StoreUnavailableError):
            manager.update_config("analytics", {"a": 1})
        assert plugin._config == {}
        assert listener.events == []

    def test_if_the_hook_fails_the_config_is_stored_and_the_plugin_in_error(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.fail("on_config_changed")
        with pytest.raises(HookError):
            manager.update_config("analytics", {"a": 1})
        assert plugin.status is PluginStatus.ERROR
        assert config(store) == plugin._config == {"a": 1}
        assert listener.enabled == set()

    def test_works_without_a_store(self, plugin: ExamplePlugin) -> None:
        manager = started(None, plugin, interval=5)
        manager.update_config("analytics", {"a": 1, "b": 1})
        manager.update_config("analytics", {"b": 2}, remove=["a"])
        assert plugin._config == {"interval": 5, "b": 2}


class TestEnableDefaults:
    def test_enables_those_that_have_no_row(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert store.log == ["get_by_name", "on_enable", "add", "plugin.enabled"]
        assert listener.events == [("enabled", "analytics", "local")]
        assert status(store) == "enabled"
        assert plugin.status is PluginStatus.ENABLED

    def test_stores_the_config(self, store: FailingStore, plugin: ExamplePlugin) -> None:
        started(store, plugin, interval=5).enable_defaults("analytics")
        assert config(store) == {"interval": 5}

    def test_a_row_that_says_disabled_stands(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        row = store.save("analytics", "disabled", {"a": 1})
        assert manager.enable_defaults("analytics") == []
        assert store.get_all() == [row]
        assert plugin.status is PluginStatus.INITIALIZED
        assert "on_enable" not in store.log

    def test_a_row_that_another_process_made_since_the_restore_is_followed(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.load_persisted_state()
        row = store.save("analytics", "enabled", {"a": 1})
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert store.get_all() == [row]
        assert plugin.status is PluginStatus.ENABLED
        assert plugin.get_config("a") == 1

    def test_a_row_that_says_enabled_is_not_tried_again_after_its_hook_raised(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled")
        plugin.fail("on_enable")
        manager.load_persisted_state()
        assert manager.enable_defaults("analytics") == []
        assert plugin.status is PluginStatus.ERROR

    def test_a_plugin_that_is_new_is_enabled_beside_those_that_were_decided_on(self, store: FailingStore) -> None:
        manager = started(store, ExamplePlugin("old"), ExamplePlugin("new"))
        store.save("old", "disabled")
        manager.load_persisted_state()
        assert manager.enable_defaults("old", "new") == ["new"]

    def test_a_row_that_was_deleted_is_no_decision_any_more(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.disable_plugin("analytics")
        store.delete("analytics")
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert status(store) == "enabled"

    def test_one_that_runs_without_a_row_gets_one(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.delete("analytics")
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert status(store) == "enabled"
        assert store.log.count("on_enable") == 1

    def test_a_second_time_there_is_nothing_to_do(self, manager: PluginManager, listener: Listener) -> None:
        manager.enable_defaults("analytics")
        assert manager.enable_defaults("analytics") == []
        assert len(listener.events) == 1

    def test_an_unknown_plugin_is_not_found_and_nothing_enabled(
        self, manager: PluginManager, plugin: ExamplePlugin
    ) -> None:
        with pytest.raises(PluginNotFoundError):
            manager.enable_defaults("analytics", "unknown")
        assert plugin.log == []

    def test_of_none_does_nothing(self, manager: PluginManager, store: FailingStore) -> None:
        assert manager.enable_defaults() == []
        assert store.log == []

    def test_dependencies_come_first(self, store: FailingStore) -> None:
        manager = started(store, ExamplePlugin("a", "b"), ExamplePlugin("b", "c"), ExamplePlugin("c"))
        assert manager.enable_defaults("a", "b", "c", "a") == ["c", "b", "a"]

    def test_one_that_needs_a_plugin_which_is_not_enabled_is_left_for_the_next_time(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = started(store, ExamplePlugin("child", "parent"), ExamplePlugin("parent"), ExamplePlugin("other"))
        store.save("parent", "disabled")
        assert manager.enable_defaults("child", "parent", "other") == ["other"]
        assert status(store, "child") is None
        assert "'child'" in caplog.text and "Dependency 'parent' not enabled" in caplog.text
        manager.enable_plugin("parent")
        assert manager.enable_defaults("child") == ["child"]

    def test_those_in_a_cycle_are_left(self, store: FailingStore, caplog: pytest.LogCaptureFixture) -> None:
        manager = started(store, ExamplePlugin("a", "b"), ExamplePlugin("b", "a"), ExamplePlugin("c"))
        assert manager.enable_defaults("a", "b", "c") == ["c"]
        assert len(store.get_all()) == 1

    def test_a_failing_hook_goes_to_the_caller_and_stores_nothing(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        plugin.fail("on_enable")
        with pytest.raises(HookError):
            manager.enable_defaults("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert (listener.events, status(store)) == ([], None)
        plugin.fail()
        assert manager.enable_defaults("analytics") == ["analytics"]

    @pytest.mark.parametrize("method", ["get_by_name", "add"])
    def test_if_the_store_fails_the_hook_is_undone(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, method: str
    ) -> None:
        store.fails = {method}
        with pytest.raises(StoreUnavailableError):
            manager.enable_defaults("analytics")
        assert plugin.status is PluginStatus.INITIALIZED
        assert plugin.log.count("on_enable") == plugin.log.count("on_disable")
        assert listener.events == []

    def test_a_row_that_its_own_hook_made_is_no_decision(self, store: FailingStore) -> None:
        plugin = ExamplePlugin("analytics")
        manager = started(store, plugin)
        plugin.on_enable = lambda: manager.save_config("analytics", {"made": "by the hook"})  # type: ignore[method-assign]
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert (status(store), config(store)) == ("enabled", {"made": "by the hook"})
        assert plugin.status is PluginStatus.ENABLED

    def test_one_that_another_process_disabled_meanwhile_stays_disabled(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.before["add"] = lambda: InMemoryPluginConfigStore.save(store, "analytics", "disabled")
        assert manager.enable_defaults("analytics") == []
        assert store.log == ["get_by_name", "on_enable", "add", "on_disable"]
        assert plugin.status is not PluginStatus.ENABLED
        assert (listener.events, status(store)) == ([], "disabled")

    def test_one_that_another_process_enabled_meanwhile_takes_the_config_of_the_row(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.before["add"] = lambda: InMemoryPluginConfigStore.save(store, "analytics", "enabled", {"by": "another"})
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert plugin._config == config(store) == {"by": "another"}
        assert listener.enabled == {"analytics"}

    def test_one_that_cannot_take_that_config_is_in_error_and_listeners_agree(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        def other() -> None:
            InMemoryPluginConfigStore.save(store, "analytics", "enabled", {"by": "another"})
            plugin.fail("on_config_changed")

        store.before["add"] = other
        assert manager.enable_defaults("analytics") == []
        assert plugin.status is PluginStatus.ERROR
        assert listener.enabled == set()

    def test_what_the_hook_saves_without_a_store_stays(self, plugin: ExamplePlugin) -> None:
        manager = started(None, plugin)
        plugin.on["on_enable"] = lambda: manager.save_config("analytics", {"key": "made at the first start"})
        manager.enable_defaults("analytics")
        assert plugin._config == {"key": "made at the first start"}

    def test_without_a_store_it_enables_what_no_one_decided_on(self, plugin: ExamplePlugin) -> None:
        manager = started(None, plugin)
        assert manager.enable_defaults("analytics") == ["analytics"]
        assert manager.enable_defaults("analytics") == []
        manager.disable_plugin("analytics")
        assert manager.enable_defaults("analytics") == []
        assert plugin.status is PluginStatus.DISABLED


class TestLoadPersistedState:
    def test_enables_what_the_rows_say_and_announces_it(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1})
        store.log.clear()
        report = manager.load_persisted_state()
        assert (report.restored, report.skipped, report.failed) == (["analytics"], {}, {})
        assert plugin.status is PluginStatus.ENABLED
        assert listener.events == [("config_changed", "analytics", "stored"), ("enabled", "analytics", "stored")]
        assert store.log == ["get_all", "plugin.config_changed", "on_enable", "plugin.enabled"]

    def test_the_hook_finds_the_stored_config(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        found = []
        plugin.on["on_enable"] = lambda: found.append(plugin.get_config("a"))
        store.save("analytics", "enabled", {"a": 1})
        manager.load_persisted_state()
        assert found == [1]

    def test_configs_go_to_disabled_plugins_too_and_survive_their_enabling(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "disabled", {"a": 1})
        report = manager.load_persisted_state()
        assert (report.restored, report.skipped, report.failed) == ([], {}, {})
        assert plugin._config == {"a": 1}
        assert plugin.status is PluginStatus.DISABLED
        assert plugin.log == ["save", "get_all"]
        manager.enable_plugin("analytics")
        assert config(store) == {"a": 1}

    def test_one_without_a_row_stays_as_it_is(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener
    ) -> None:
        manager.load_persisted_state()
        assert plugin.status is PluginStatus.INITIALIZED
        assert listener.events == []

    def test_dependencies_come_first(self, store: FailingStore) -> None:
        log: list[str] = []
        plugins = [ExamplePlugin("a", "b"), ExamplePlugin("b", "z"), ExamplePlugin("z"), ExamplePlugin("c")]
        for plugin in plugins:
            plugin.on["on_enable"] = lambda name=plugin.metadata.name: log.append(name)  # type: ignore[misc]
            store.save(plugin.metadata.name, "enabled")
        report = started(store, *plugins).load_persisted_state()
        assert report.restored == log == ["c", "z", "b", "a"]

    def test_a_plugin_whose_dependency_is_not_enabled_is_skipped_and_logged(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = started(
            store, ExamplePlugin("child", "parent"), ExamplePlugin("parent"), ExamplePlugin("orphan", "missing")
        )
        for name in ("child", "orphan"):
            store.save(name, "enabled")
        store.save("parent", "disabled")
        report = manager.load_persisted_state()
        assert report.skipped == {
            "child": "Dependency 'parent' not enabled",
            "orphan": "Dependency 'missing' not enabled",
        }
        assert manager.get_enabled_plugins() == []
        assert "'child'" in caplog.text and "'orphan'" in caplog.text
        assert status(store, "child") == "enabled"

    def test_a_cycle_skips_its_members_and_stops_none_of_the_others(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = started(store, ExamplePlugin("a", "b"), ExamplePlugin("b", "a"), ExamplePlugin("c"))
        for name in ("a", "b", "c"):
            store.save(name, "enabled")
        report = manager.load_persisted_state()
        assert report.restored == ["c"]
        assert report.skipped == {
            "a": "is in a dependency cycle: a -> b -> a",
            "b": "is in a dependency cycle: b -> a -> b",
        }
        assert caplog.text.count("dependency cycle") == 2

    def test_a_plugin_whose_hook_raises_is_in_error_and_stops_none_of_the_others(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad, child, good = ExamplePlugin("bad"), ExamplePlugin("child", "bad"), ExamplePlugin("good")
        bad.fail("on_enable")
        manager = started(store, bad, child, good)
        listener = Listener(manager)
        for name in ("bad", "child", "good"):
            store.save(name, "enabled")
        report = manager.load_persisted_state()
        assert report.restored == ["good"]
        assert report.failed == {"bad": "on_enable raised HookError: bad failed"}
        assert report.skipped == {"child": "Dependency 'bad' not enabled"}
        assert bad.status is PluginStatus.ERROR
        assert child.status is PluginStatus.INITIALIZED
        assert listener.enabled == {"good"}
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "'bad'" in record.getMessage() and record.exc_info is not None
        assert status(store, "bad") == "enabled"

    def test_one_in_error_is_tried_again_when_its_row_changes(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled")
        plugin.fail("on_enable")
        failed = manager.load_persisted_state().failed
        plugin.fail()
        assert manager.load_persisted_state().failed == failed
        store.save_config("analytics", {"a": 1})
        assert manager.load_persisted_state().restored == ["analytics"]

    def test_an_interrupt_in_a_hook_goes_to_the_caller(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled")
        plugin.fail("on_enable", error=KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            manager.load_persisted_state()
        assert plugin.status is PluginStatus.ERROR
        assert listener.enabled == set()

    def test_a_row_without_a_plugin_is_left_alone(
        self, manager: PluginManager, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = [store.save("unknown", "enabled", {"a": 1}), store.save("unknown too", "disabled")]
        report = manager.load_persisted_state()
        assert report.skipped == {"unknown": "is not registered and initialized here"}
        assert store.get_all() == before
        assert caplog.text == ""

    def test_a_plugin_that_was_not_initialized_is_skipped_and_logged(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager, plugin = PluginManager(config_repo=store), ExamplePlugin()
        manager.register_plugin(plugin)
        store.save("analytics", "enabled")
        report = manager.load_persisted_state()
        assert report.skipped == {"analytics": "is not registered and initialized here"}
        assert plugin.status is PluginStatus.REGISTERED
        assert "'analytics'" in caplog.text

    def test_nothing_is_stored(self, store: FailingStore) -> None:
        bad = ExamplePlugin("bad")
        bad.fail("on_enable")
        manager = started(store, bad, ExamplePlugin("good"), ExamplePlugin("off"), interval=5)
        store.save_many([PluginConfig("bad", "enabled"), PluginConfig("good", "enabled"), PluginConfig("off")])
        before = store.get_all()
        manager.load_persisted_state()
        assert store.get_all() == before
        assert store.saved == []

    def test_may_be_repeated(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1})
        manager.load_persisted_state()
        events = list(listener.events)
        assert manager.load_persisted_state().restored == ["analytics"]
        assert listener.events == events
        assert plugin.log.count("on_enable") == 1

    def test_if_the_store_cannot_be_read_nothing_is_changed(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "enabled", {"a": 1})
        store.fails = {"get_all"}
        with pytest.raises(StoreUnavailableError):
            manager.load_persisted_state()
        assert plugin.status is PluginStatus.INITIALIZED
        assert plugin._config == {}
        assert listener.events == []

    def test_without_a_store_there_is_nothing_to_restore(self) -> None:
        manager = started(None, ExamplePlugin())
        manager.enable_plugin("analytics")
        report = manager.load_persisted_state()
        assert (report.restored, report.skipped, report.failed) == ([], {}, {})
        assert manager.is_enabled("analytics")

    def test_what_was_disabled_elsewhere_is_stopped_dependents_first(self, store: FailingStore) -> None:
        log: list[str] = []
        plugins = [ExamplePlugin("a"), ExamplePlugin("b", "a"), ExamplePlugin("c", "b")]
        manager = started(store, *plugins)
        listener = Listener(manager)
        for plugin in plugins:
            plugin.on["on_disable"] = lambda name=plugin.metadata.name: log.append(name)  # type: ignore[misc]
            manager.enable_plugin(plugin.metadata.name)
        store.save("a", "disabled")
        report = manager.load_persisted_state()
        assert log == ["c", "b", "a"]
        assert listener.events[3:] == [("disabled", name, "stored") for name in ("c", "b", "a")]
        assert report.restored == []
        assert set(report.skipped) == {"b", "c"}
        assert {plugin.status for plugin in plugins} == {PluginStatus.DISABLED}

    def test_one_whose_row_was_deleted_is_stopped(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        manager.enable_plugin("analytics")
        store.delete("analytics")
        manager.load_persisted_state()
        assert plugin.status is PluginStatus.DISABLED
        assert listener.enabled == set()

    def test_one_that_cannot_be_stopped_is_in_error_in_the_report_and_announced(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad, good = ExamplePlugin("bad"), ExamplePlugin("good")
        manager = started(store, bad, good)
        listener = Listener(manager)
        for name in ("bad", "good"):
            manager.enable_plugin(name)
        for name in ("bad", "good"):
            store.save(name, "disabled")
        bad.fail("on_disable")
        report = manager.load_persisted_state()
        assert report.failed == {"bad": "on_disable raised HookError: bad failed"}
        assert bad.status is PluginStatus.ERROR
        assert good.status is PluginStatus.DISABLED
        assert listener.enabled == set()
        assert "HookError" in caplog.text

    def test_a_plugin_that_cannot_take_its_new_config_is_in_error_in_the_report_and_stops_no_other(
        self, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad, child, good = ExamplePlugin("bad"), ExamplePlugin("child", "bad"), ExamplePlugin("good")
        manager = started(store, bad, child, good)
        listener = Listener(manager)
        for name in ("bad", "child", "good"):
            manager.enable_plugin(name)
        for name in ("bad", "child", "good"):
            store.save_config(name, {"a": 1})
        bad.fail("on_config_changed")
        report = manager.load_persisted_state()
        assert bad.status is PluginStatus.ERROR
        assert report.failed == {"bad": "on_config_changed raised HookError: bad failed"}
        assert report.skipped == {"child": "Dependency 'bad' not enabled"}
        assert report.restored == ["good"]
        assert listener.enabled == {"good"}
        assert good.changes == [({}, {"a": 1})]
        assert "HookError" in caplog.text
        bad.fail()
        store.save_config("bad", {"a": 2})
        assert manager.load_persisted_state().restored == ["bad", "child", "good"]

    def test_a_dependent_that_runs_is_stopped_if_its_dependency_can_not_be_started(self, store: FailingStore) -> None:
        parent, child = ExamplePlugin("parent"), ExamplePlugin("child", "parent")
        manager = started(store, parent, child)
        manager.enable_plugin("parent")
        manager.enable_plugin("child")
        listener = Listener(manager, enabled=["parent", "child"])
        parent.fail("on_config_changed")
        with pytest.raises(HookError):
            manager.save_config("parent", {"a": 1})
        parent.fail("on_enable")
        report = manager.load_persisted_state()
        assert report.skipped == {"child": "Dependency 'parent' not enabled"}
        assert child.status is PluginStatus.DISABLED
        assert listener.enabled == set()


class TestLookups:
    def test_plugins_are_listed_in_the_order_of_their_registration(self) -> None:
        plugins = [ExamplePlugin("b"), ExamplePlugin("a"), ExamplePlugin("c")]
        manager = started(None, *plugins)
        manager.enable_plugin("c")
        manager.enable_plugin("b")
        assert manager.get_all_plugins() == plugins
        assert manager.get_enabled_plugins() == [plugins[0], plugins[2]]

    def test_an_unknown_plugin_is_none_and_not_enabled(self, manager: PluginManager) -> None:
        assert manager.get_plugin("unknown") is None
        assert manager.is_enabled("unknown") is False
        assert manager.is_enabled("analytics") is False
        manager.enable_plugin("analytics")
        assert manager.is_enabled("analytics") is True

    def test_blueprints_are_those_of_enabled_plugins_that_have_one(self) -> None:
        class Routed(ExamplePlugin):
            def get_blueprint(self) -> Any:
                return f"blueprint of {self.metadata.name}"

            def get_url_prefix(self) -> str:
                return f"/{self.metadata.name}"

        manager = started(None, ExamplePlugin("plain"), Routed("on"), Routed("off"))
        manager.enable_plugin("plain")
        manager.enable_plugin("on")
        assert manager.get_plugin_blueprints() == [("blueprint of on", "/on")]
        assert ExamplePlugin().get_url_prefix() is None

    def test_metadata_may_be_a_plain_class_attribute(self) -> None:
        from plugin_store import BasePlugin

        class Plain(BasePlugin):
            metadata = PluginMetadata("plain", "2.0", "Ada", "Does nothing.")

        manager, plugin = PluginManager(), Plain()
        manager.register_plugin(plugin)
        manager.initialize_plugin("plain")
        manager.enable_plugin("plain")
        manager.save_config("plain", {"a": 1})
        manager.disable_plugin("plain")
        assert plugin.get_config("a") == 1

    def test_a_dispatcher_that_is_given_is_used(self) -> None:
        class Falsy(EventDispatcher):
            def __bool__(self) -> bool:
                return False

        dispatcher = Falsy()
        assert PluginManager(event_dispatcher=dispatcher).event_dispatcher is dispatcher
        assert PluginManager(dispatcher).event_dispatcher is dispatcher


class TestHooksAndListenersThatCallTheManager:
    def test_a_hook_may_enable_another_plugin(self, store: FailingStore) -> None:
        first, second = ExamplePlugin("first"), ExamplePlugin("second")
        manager = started(store, first, second)
        listener = Listener(manager)
        first.on["on_enable"] = lambda: manager.enable_plugin("second")
        manager.enable_plugin("first")
        assert listener.enabled == {"first", "second"}
        assert status(store, "second") == "enabled"

    @pytest.mark.parametrize("call", ["enable_plugin", "disable_plugin", "initialize_plugin"])
    def test_a_hook_cannot_change_the_status_of_its_own_plugin(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore, call: str
    ) -> None:
        plugin.on["on_enable"] = lambda: getattr(manager, call)("analytics")
        with pytest.raises(PluginStateError, match="own hooks cannot change"):
            manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ERROR
        assert (listener.events, status(store)) == ([], None)
        plugin.on = {}
        manager.enable_plugin("analytics")

    def test_a_hook_may_save_the_config_of_its_own_plugin(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        store.save("analytics", "disabled", {"a": 1})
        plugin.on["on_enable"] = lambda: manager.save_config("analytics", {"a": 2})
        manager.enable_plugin("analytics")
        assert (status(store), config(store), plugin._config) == ("enabled", {"a": 2}, {"a": 2})
        assert listener.enabled == {"analytics"}

    @pytest.mark.parametrize("restoring", [True, False])
    def test_a_hook_may_restore_and_its_own_plugin_is_left_to_the_change_that_is_under_way(
        self, store: FailingStore, restoring: bool
    ) -> None:
        first, second = ExamplePlugin("first"), ExamplePlugin("second")
        manager = started(store, first, second)
        listener = Listener(manager)
        for name in ("first", "second"):
            store.save(name, "enabled")
        reports = []
        first.on["on_enable"] = lambda: reports.append(manager.load_persisted_state())
        if restoring:
            assert manager.load_persisted_state().restored == ["first", "second"]
        else:
            manager.enable_plugin("first")
        assert [(report.restored, report.failed) for report in reports] == [(["second"], {})]
        assert listener.enabled == {"first", "second"}
        assert first.log.count("on_enable") == second.log.count("on_enable") == 1

    @pytest.mark.parametrize("row", ["enabled", "disabled"])
    def test_a_hook_that_restores_while_its_plugin_is_being_disabled(self, store: FailingStore, row: str) -> None:
        plugin = ExamplePlugin()
        manager = started(store, plugin)
        manager.enable_plugin("analytics")
        listener = Listener(manager, enabled=["analytics"])
        reports = []

        def restore() -> None:
            store.save("analytics", row)  # by another process
            reports.append(manager.load_persisted_state())

        plugin.on["on_disable"] = restore
        manager.disable_plugin("analytics")
        assert [report.failed for report in reports] == [{}]
        assert plugin.log == ["on_enable", "on_disable"]
        assert plugin.status is PluginStatus.DISABLED
        assert listener.enabled == set()

    def test_a_listener_may_enable_what_depends_on_the_plugin(self, store: FailingStore) -> None:
        manager = started(store, ExamplePlugin("parent"), ExamplePlugin("child", "parent"))
        manager.event_dispatcher.add_listener(
            "plugin.enabled",
            lambda event: event.data["plugin_name"] == "parent" and manager.enable_plugin("child"),
        )
        manager.enable_plugin("parent")
        assert manager.is_enabled("child")

    def test_a_listener_cannot_change_the_plugin_whose_change_it_is_told(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager.event_dispatcher.add_listener("plugin.enabled", lambda event: manager.disable_plugin("analytics"))
        manager.enable_plugin("analytics")
        assert plugin.status is PluginStatus.ENABLED
        assert status(store) == "enabled"
        assert "PluginStateError" in caplog.text

    def test_a_listener_that_raises_is_logged_and_changes_nothing(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager.event_dispatcher.add_listener("plugin.enabled", lambda event: raising(HookError())())
        listener = Listener(manager)
        manager.enable_plugin("analytics")
        assert listener.enabled == {"analytics"}
        assert status(store) == "enabled"
        assert "HookError" in caplog.text

    def test_a_hook_that_disables_what_its_plugin_depends_on_is_undone(self, store: FailingStore) -> None:
        base, child = ExamplePlugin("base"), ExamplePlugin("child", "base")
        manager = started(store, base, child)
        manager.enable_plugin("base")
        listener = Listener(manager, enabled=["base"])
        child.on["on_enable"] = lambda: manager.disable_plugin("base")
        with pytest.raises(DependencyError, match="Cannot enable plugin 'child': Dependency 'base' not enabled"):
            manager.enable_plugin("child")
        assert child.log == ["on_enable", "on_disable"]
        assert (child.status, base.status) == (PluginStatus.INITIALIZED, PluginStatus.DISABLED)
        assert (status(store, "child"), status(store, "base")) == (None, "disabled")
        assert listener.enabled == set()

    def test_a_hook_that_changes_its_row_and_raises_does_not_keep_a_sync_from_ending(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.save("analytics", "enabled", {"tries": 0})

        def hook() -> None:
            manager.save_config("analytics", {"tries": plugin.get_config("tries") + 1})
            raise HookError("never")

        plugin.on["on_enable"] = hook
        assert manager.sync().failed == {"analytics": "on_enable raised HookError: never"}
        assert config(store) == {"tries": 11}
        (message,) = [message for message in caplog.messages if "rounds" in message]
        assert message.startswith("hooks or listeners changed plugins again in each of 11 rounds of a sync")


class TestBeforeAndAfter:
    @pytest.fixture
    def told(self, manager: PluginManager) -> list[tuple[Any, ...]]:
        """What the events told: kind, origin, before and after."""
        told: list[tuple[Any, ...]] = []

        def note(event: DispatchedEvent) -> None:
            data = event.data
            told.append((event.name.removeprefix("plugin."), data["origin"], data["before"], data["after"]))

        for kind in ("enabled", "disabled", "config_changed"):
            manager.event_dispatcher.add_listener(f"plugin.{kind}", note)
        return told

    def test_of_what_was_asked_of_the_manager(self, manager: PluginManager, told: list[tuple[Any, ...]]) -> None:
        manager.enable_plugin("analytics")
        manager.update_config("analytics", {"a": [1]})
        manager.update_config("analytics", {"b": {"$env": "PATH"}}, remove=["a"])
        manager.disable_plugin("analytics")
        manager.enable_plugin("analytics")
        assert told == [
            ("enabled", "local", "initialized", "enabled"),
            ("config_changed", "local", {}, {"a": [1]}),
            ("config_changed", "local", {"a": [1]}, {"b": {"$env": "PATH"}}),
            ("disabled", "local", "enabled", "disabled"),
            ("enabled", "local", "disabled", "enabled"),
        ]

    def test_of_what_was_found_in_the_store(
        self, manager: PluginManager, store: FailingStore, told: list[tuple[Any, ...]]
    ) -> None:
        for status, config in (("enabled", {"a": 1}), ("disabled", {"a": 1}), ("enabled", {"a": 2})):
            store.save("analytics", status, config)
            manager.sync()
        assert told == [
            ("config_changed", "stored", {}, {"a": 1}),
            ("enabled", "stored", "initialized", "enabled"),
            ("disabled", "stored", "enabled", "disabled"),
            ("config_changed", "stored", {"a": 1}, {"a": 2}),
            ("enabled", "stored", "disabled", "enabled"),
        ]

    def test_of_hooks_that_raise(
        self, manager: PluginManager, store: FailingStore, plugin: ExamplePlugin, told: list[tuple[Any, ...]]
    ) -> None:
        manager.enable_plugin("analytics")
        plugin.fail("on_config_changed")
        with pytest.raises(HookError):
            manager.save_config("analytics", {"a": 1})
        plugin.fail("on_disable")
        manager.enable_plugin("analytics")
        with pytest.raises(HookError):
            manager.disable_plugin("analytics")
        manager.enable_plugin("analytics")
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        store.fails = set()
        plugin.fail()
        manager.enable_plugin("analytics")
        plugin.fail("on_enable")
        store.fails = {"save"}
        with pytest.raises(StoreUnavailableError):
            manager.disable_plugin("analytics")
        assert [line[2:] for line in told if line[0] == "disabled"] == [("enabled", "error")] * 4
        assert [line[2] for line in told if line[0] == "enabled"] == ["initialized"] + ["error"] * 3

    def test_what_a_listener_does_with_a_config_changes_nothing(
        self, manager: PluginManager, plugin: ExamplePlugin
    ) -> None:
        def spoil(event: DispatchedEvent) -> None:
            event.data["after"]["list"].append("spoilt")

        manager.event_dispatcher.add_listener("plugin.config_changed", spoil)
        manager.update_config("analytics", {"list": []})
        assert plugin.get_config("list") == []


class TestThreads:
    def test_many_threads_enable_and_disable_one_plugin(
        self, manager: PluginManager, plugin: ExamplePlugin, listener: Listener, store: FailingStore
    ) -> None:
        def work(thread: int) -> None:
            for _ in range(20):
                if thread % 2:
                    manager.enable_plugin("analytics")
                else:
                    manager.disable_plugin("analytics")

        _at_once(8, work)
        enabled = plugin.status is PluginStatus.ENABLED
        assert listener.enabled == ({"analytics"} if enabled else set())
        assert status(store) == ("enabled" if enabled else "disabled")
        assert plugin.log.count("on_enable") - plugin.log.count("on_disable") == enabled

    def test_many_threads_do_all_of_it(self, store: FailingStore) -> None:
        plugins = [ExamplePlugin("a"), ExamplePlugin("b", "a"), ExamplePlugin("c", "b")]
        manager = started(store, *plugins)
        listener = Listener(manager)
        actions: list[Callable[[], object]] = [
            lambda: manager.enable_plugin("a"),
            lambda: manager.enable_plugin("b"),
            lambda: manager.disable_plugin("a"),
            lambda: manager.disable_plugin("c"),
            lambda: manager.save_config("a", {"n": 1}),
            lambda: plugins[0].set_config("local", 2),
            manager.load_persisted_state,
            lambda: manager.enable_defaults("a", "b", "c"),
        ]

        def work(thread: int) -> None:
            for turn in range(25):
                try:
                    actions[(thread + turn) % len(actions)]()
                except DependencyError:
                    continue

        _at_once(8, work)
        enabled = {plugin.metadata.name for plugin in manager.get_enabled_plugins()}
        assert listener.enabled == enabled
        assert {row.plugin_name for row in store.get_enabled()} >= enabled
        manager.load_persisted_state()
        assert {row.plugin_name for row in store.get_enabled()} >= listener.enabled

    def test_a_change_waits_for_the_one_that_is_under_way(self, store: FailingStore) -> None:
        first, second = ExamplePlugin("first"), ExamplePlugin("second")
        manager = started(store, first, second)
        in_hook, go_on = Event(), Event()

        def hook() -> None:
            in_hook.set()
            assert go_on.wait(timeout=20)

        first.on["on_enable"] = hook
        threads = [Thread(target=manager.enable_plugin, args=(name,)) for name in ("first", "second")]
        threads[0].start()
        assert in_hook.wait(timeout=20)
        threads[1].start()
        threads[1].join(timeout=0.2)
        assert second.log == []
        go_on.set()
        for thread in threads:
            thread.join(timeout=20)
        assert second.log == ["on_enable"]

    def test_one_hook_runs_at_a_time(self) -> None:
        running: list[str] = []
        plugins = [ExamplePlugin(f"plugin {number}") for number in range(8)]

        def hook() -> None:
            running.append("started")
            assert len(running) == 1
            running.pop()

        for plugin in plugins:
            plugin.on = {"on_enable": hook, "on_disable": hook}
        manager = started(None, *plugins)

        def work(number: int) -> None:
            for _ in range(20):
                manager.enable_plugin(f"plugin {number}")
                manager.disable_plugin(f"plugin {number}")

        _at_once(8, work)

    @pytest.mark.parametrize(
        ("hook", "message"),
        [
            ("on_enable", "another thread is in on_enable of plugin 'analytics', for "),
            ("listener", "another thread is in a listener of plugin.enabled of plugin 'analytics', for "),
            ("store", "another thread is in a change, at the store;"),
        ],
    )
    def test_who_waits_long_is_told_once_in_the_log_for_what(
        self,
        manager: PluginManager,
        plugin: ExamplePlugin,
        store: FailingStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        hook: str,
        message: str,
    ) -> None:
        monkeypatch.setattr("plugin_store.manager.PATIENCE", 0.05)
        in_hook, go_on = Event(), Event()

        def hang(*_: object) -> None:
            in_hook.set()
            assert go_on.wait(timeout=20)

        manager.event_dispatcher.add_listener("plugin.enabled", hang if hook == "listener" else bool)
        plugin.on["on_enable"] = hang if hook == "on_enable" else bool
        store.before["save"] = hang if hook == "store" else bool
        threads = [Thread(target=manager.enable_plugin, args=("analytics",)), Thread(target=manager.sync)]
        threads[0].start()
        assert in_hook.wait(timeout=20)
        threads[1].start()
        until(lambda: caplog.messages)
        go_on.set()
        for thread in threads:
            thread.join(timeout=20)
            assert not thread.is_alive()
        (said,) = caplog.messages
        assert said.startswith("waiting for the plugin manager: ") and message in said

    def test_nothing_that_set_config_sets_meanwhile_is_lost(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        # Where another thread may be in the middle of a change: the store is asked, and hands out its rows.
        store.save("analytics", "disabled", {"a": 1})
        store.before["save"] = lambda: plugin.set_config("while storing", 1)
        plugin.set_config("before", 1)
        manager.enable_plugin("analytics")
        assert config(store) == {"a": 1, "before": 1}
        store.save_config("analytics", {"a": 2, "before": 1})
        manager.sync()
        assert plugin._config == {"a": 2, "before": 1, "while storing": 1}
        manager.enable_plugin("analytics")
        assert config(store) == plugin._config

    def test_nor_what_it_sets_while_a_config_is_applied(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        class Meanwhile:
            def __eq__(self, other: object) -> bool:  # as the configs are compared
                plugin.set_config("meanwhile", 1)
                return False

        store.save_config("analytics", {"a": 0})
        manager.sync()
        plugin.set_config("a", Meanwhile())
        store.save_config("analytics", {"a": 1, "b": 2})
        manager.sync()
        assert (plugin.get_config("b"), plugin.get_config("meanwhile")) == (2, 1)

    def test_nor_what_it_is_about_to_set_when_a_config_is_applied(
        self, manager: PluginManager, plugin: ExamplePlugin, store: FailingStore
    ) -> None:
        class Key(str):
            def __hash__(self) -> int:  # with the config in hand, before it is changed
                store.save_config("analytics", {"a": 1})
                manager.sync()
                return super().__hash__()

        plugin.set_config(Key("meanwhile"), 1)
        assert plugin._config == {"a": 1, "meanwhile": 1}

    def test_reading_does_not_wait_for_a_hook(self, manager: PluginManager, plugin: ExamplePlugin) -> None:
        in_hook, go_on = Event(), Event()

        def hook() -> None:
            in_hook.set()
            assert go_on.wait(timeout=20)

        plugin.on["on_enable"] = hook
        thread = Thread(target=manager.enable_plugin, args=("analytics",))
        thread.start()
        assert in_hook.wait(timeout=20)
        read = Thread(
            target=lambda: (
                manager.is_enabled("analytics"),
                manager.get_plugin("analytics"),
                manager.get_all_plugins(),
                manager.get_enabled_plugins(),
                manager.get_plugin_blueprints(),
            )
        )
        read.start()
        until(lambda: not read.is_alive())
        assert not manager.is_enabled("analytics")
        go_on.set()
        thread.join(timeout=20)
        assert manager.is_enabled("analytics")


def test_the_managers_errors_are_value_errors_and_ours() -> None:
    for error in (
        PluginNotFoundError,
        PluginAlreadyRegisteredError,
        PluginStateError,
        DependencyError,
        InvalidConfigError,
        InvalidNameError,
    ):
        assert issubclass(error, ValueError) and issubclass(error, PluginStoreError)
