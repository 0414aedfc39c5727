"""A plugin by itself, and its registration."""

from functools import partial
from typing import Any

import pytest
from recorder import Recorder, events_of, raising, started

from plugin_store import (
    BasePlugin,
    InvalidConfigError,
    InvalidNameError,
    PluginManager,
    PluginMetadata,
    PluginStateError,
    PluginStatus,
)


class Mail(BasePlugin):
    metadata = PluginMetadata("mail", "1.0.0", "Ada", "Sends mail.")


def test_plugin_is_discovered_when_made() -> None:
    assert Mail().status is PluginStatus.DISCOVERED


def test_register_plugin_makes_plugin_known() -> None:
    manager, mail = PluginManager(), Mail()
    events = events_of(manager)
    manager.register_plugin(mail)
    assert manager.get_plugin("mail") is mail and manager.get_all_plugins() == [mail]
    assert mail.status is PluginStatus.REGISTERED
    assert events == [("registered", "mail")]


def test_register_plugin_announces_that_plugin_is_initialized() -> None:
    manager, mail = PluginManager(), Mail()
    events = events_of(manager)
    mail.initialize({"port": 25})
    manager.register_plugin(mail)
    assert mail.status is PluginStatus.INITIALIZED
    assert events == [("registered", "mail"), ("initialized", "mail")]


def test_register_plugin_refuses_second_name() -> None:
    manager, first = PluginManager(), Mail()
    manager.register_plugin(first)
    with pytest.raises(ValueError, match="Plugin 'mail' already registered"):
        manager.register_plugin(Mail())
    assert manager.get_all_plugins() == [first]


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", None])
def test_register_plugin_refuses_name(name: Any) -> None:
    manager = PluginManager()
    with pytest.raises(InvalidNameError):
        manager.register_plugin(Recorder(name))
    assert manager.get_all_plugins() == []


@pytest.mark.parametrize("hook", ["initialize", "validate_config", "on_enable", "on_disable", "on_config_changed"])
def test_register_plugin_refuses_async_hook(hook: str) -> None:
    async def function(self: BasePlugin, *args: object) -> None: ...

    manager = PluginManager()
    with pytest.raises(TypeError, match=rf"Async\.{hook} must be a plain function"):
        manager.register_plugin(type("Async", (Mail,), {hook: function})())
    assert manager.get_all_plugins() == []


class AsyncCall:
    async def __call__(self) -> None: ...


async def generates() -> Any:
    yield


@pytest.mark.parametrize("hook", [AsyncCall(), partial(AsyncCall().__call__), partial(AsyncCall()), generates])
def test_register_plugin_refuses_async_object_as_hook(hook: Any) -> None:
    mail = Mail()
    mail.on_enable = hook  # type: ignore[method-assign]
    with pytest.raises(TypeError, match=r"Mail\.on_enable"):
        PluginManager().register_plugin(mail)


def test_register_plugin_names_forgotten_super_init() -> None:
    class Forgetful(Mail):
        def __init__(self) -> None:
            self.started = 0

    with pytest.raises(TypeError, match=r"Forgetful\.__init__ does not call super\(\)\.__init__\(\)"):
        PluginManager().register_plugin(Forgetful())


def test_register_plugin_asks_for_metadata() -> None:
    class Bare(BasePlugin):
        pass

    with pytest.raises(TypeError, match="Bare has no metadata"):
        PluginManager().register_plugin(Bare())


@pytest.mark.parametrize("thing", [None, Mail, object()])
def test_register_plugin_refuses_what_is_not_plugin(thing: Any) -> None:
    with pytest.raises(TypeError, match="must be an instance of BasePlugin"):
        PluginManager().register_plugin(thing)


def test_metadata_may_be_property() -> None:
    class Computed(BasePlugin):
        @property
        def metadata(self) -> PluginMetadata:  # type: ignore[override]
            return PluginMetadata("computed", "1.0.0", "Ada", "Makes its metadata anew.")

    manager = started(None, Computed())
    manager.enable_plugin("computed")
    assert manager.is_enabled("computed")


@pytest.mark.parametrize(("given", "kept"), [(None, []), ("core", ["core"]), (("a", "b"), ["a", "b"])])
def test_metadata_keeps_dependencies_as_list(given: Any, kept: list[str]) -> None:
    assert PluginMetadata("mail", "1.0.0", "Ada", "Sends mail.", given).dependencies == kept


def test_metadata_takes_one_secret_key_as_text() -> None:
    assert PluginMetadata("mail", "1", "Ada", "Sends mail.", secret_keys="password").secret_keys == ("password",)


def test_dependencies_set_to_none_mean_none() -> None:
    mail = Recorder("mail")
    mail.metadata.dependencies = None
    manager = started(None, mail)
    manager.enable_plugin("mail")
    assert manager.is_enabled("mail")


def test_plugin_has_its_life_cycle_without_manager() -> None:
    mail = Recorder("mail")
    mail.initialize()
    mail.enable()
    assert mail.status is PluginStatus.ENABLED
    mail.enable()
    mail.disable()
    mail.disable()
    assert mail.status is PluginStatus.DISABLED
    assert mail.hooks == ["on_enable", "on_disable"]


def test_enable_raises_when_plugin_is_not_initialized() -> None:
    mail = Mail()
    with pytest.raises(PluginStateError, match="Cannot enable"):
        mail.enable()
    mail.disable()
    assert mail.status is PluginStatus.DISCOVERED


def test_enable_leaves_error_when_hook_raises() -> None:
    mail = Recorder("mail")
    mail.initialize()
    mail.fail("on_enable")
    with pytest.raises(ValueError, match="mail failed"):
        mail.enable()
    assert mail.status is PluginStatus.ERROR


def test_initialize_plugin_announces_it() -> None:
    manager = PluginManager()
    manager.register_plugin(mail := Mail())
    events = events_of(manager)
    manager.initialize_plugin("mail", {"port": 25})
    assert (mail.status, mail._config) == (PluginStatus.INITIALIZED, {"port": 25})
    assert events == [("initialized", "mail")]


def test_initialize_plugin_takes_new_defaults() -> None:
    manager = started(None, mail := Mail(), port=25)
    manager.initialize_plugin("mail", {"host": "a"})
    assert mail._config == {"host": "a"}


def test_initialize_plugin_raises_while_enabled() -> None:
    manager = started(None, mail := Mail(), port=25)
    manager.enable_plugin("mail")
    with pytest.raises(PluginStateError, match="disable it first"):
        manager.initialize_plugin("mail", {})
    assert mail._config == {"port": 25}


@pytest.mark.parametrize("config", [[], "port", 1, [("port", 25)]])
def test_initialize_plugin_refuses_what_is_not_dict(config: Any) -> None:
    manager = PluginManager()
    manager.register_plugin(Mail())
    with pytest.raises(InvalidConfigError, match="'mail': config must be a dict"):
        manager.initialize_plugin("mail", config)


def test_initialize_plugin_passes_hook_error_on() -> None:
    manager, mail = PluginManager(), Mail()
    mail.initialize = raising(OSError("no licence"))  # type: ignore[method-assign]
    manager.register_plugin(mail)
    with pytest.raises(OSError, match="no licence"):
        manager.initialize_plugin("mail")
    assert mail.status is PluginStatus.REGISTERED


@pytest.mark.parametrize(
    "method",
    ["initialize_plugin", "enable_plugin", "disable_plugin", "enable_defaults", "save_config", "update_config"],
)
def test_method_raises_when_plugin_is_not_found(method: str) -> None:
    config = [{}] if method.endswith("_config") else []
    with pytest.raises(ValueError, match="Plugin 'absent' not found: registered are 'mail'"):
        getattr(started(None, Mail()), method)("absent", *config)


def test_getters_answer_for_unknown_plugin() -> None:
    manager = PluginManager()
    assert manager.get_plugin("absent") is None
    assert not manager.is_enabled("absent")


def test_get_plugin_blueprints_returns_those_of_enabled_plugins() -> None:
    class WithRoutes(Recorder):
        def get_blueprint(self) -> Any:
            return f"blueprint of {self.metadata.name}"

        def get_url_prefix(self) -> str:
            return f"/{self.metadata.name}"

    manager = started(None, WithRoutes("a"), WithRoutes("b"), Mail())
    for name in ("b", "mail"):
        manager.enable_plugin(name)
    assert manager.get_plugin_blueprints() == [("blueprint of b", "/b")]


def test_get_enabled_plugins_keeps_order_of_registration() -> None:
    manager = started(None, Recorder("b"), Recorder("a"), Recorder("c"))
    manager.enable_defaults("a", "b")
    assert [plugin.metadata.name for plugin in manager.get_enabled_plugins()] == ["b", "a"]
