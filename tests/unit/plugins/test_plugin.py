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


def test_register_and_initialize_make_plugin_known() -> None:
    manager, mail = PluginManager(), Mail()
    events = events_of(manager)
    assert mail.status is PluginStatus.DISCOVERED
    manager.register_plugin(mail)
    assert manager.get_plugin("mail") is mail and manager.get_all_plugins() == [mail]
    assert manager.get_plugin("absent") is None and not manager.is_enabled("absent")
    assert mail.status is PluginStatus.REGISTERED
    with pytest.raises(ValueError, match="Plugin 'mail' already registered"):
        manager.register_plugin(Mail())
    manager.initialize_plugin("mail", {"port": 25})
    assert (mail.status, mail._config) == (PluginStatus.INITIALIZED, {"port": 25})
    assert events == [("registered", "mail"), ("initialized", "mail")]


def test_register_plugin_announces_that_plugin_is_initialized() -> None:
    manager, mail = PluginManager(), Mail()
    events = events_of(manager)
    mail.initialize({"port": 25})
    manager.register_plugin(mail)
    assert mail.status is PluginStatus.INITIALIZED
    assert events == [("registered", "mail"), ("initialized", "mail")]


class Forgetful(Mail):
    def __init__(self) -> None:
        self.started = 0


@pytest.mark.parametrize(
    ("thing", "error", "message"),
    [
        (Recorder("x" * 101), InvalidNameError, "has 101 characters"),
        (Recorder(None), InvalidNameError, "must be a str"),  # type: ignore[arg-type]
        (Forgetful(), TypeError, r"Forgetful\.__init__ does not call super\(\)\.__init__\(\)"),
        (BasePlugin(), TypeError, "BasePlugin has no metadata"),
        (Mail, TypeError, "must be an instance of BasePlugin"),
        (object(), TypeError, "must be an instance of BasePlugin"),
    ],
)
def test_register_plugin_says_what_is_wrong(thing: Any, error: type[Exception], message: str) -> None:
    manager = PluginManager()
    with pytest.raises(error, match=message):
        manager.register_plugin(thing)
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


def test_metadata_may_be_property() -> None:
    class Computed(BasePlugin):
        metadata = property(lambda self: PluginMetadata("computed", "1.0.0", "Ada", "Anew.", None))  # type: ignore

    manager = started(None, Computed())
    manager.enable_plugin("computed")
    assert manager.is_enabled("computed")


@pytest.mark.parametrize(("given", "kept"), [(None, []), ("core", ["core"]), (("a", "b"), ["a", "b"])])
def test_metadata_takes_one_or_several_names(given: Any, kept: list[str]) -> None:
    assert PluginMetadata("mail", "1.0.0", "Ada", "Sends mail.", given).dependencies == kept
    assert PluginMetadata("mail", "1.0.0", "Ada", "", secret_keys=given or ()).secret_keys == tuple(kept)


def test_plugin_has_its_life_cycle_without_manager() -> None:
    mail = Recorder("mail")
    with pytest.raises(PluginStateError, match="Cannot enable"):
        mail.enable()
    mail.disable()
    assert mail.status is PluginStatus.DISCOVERED
    mail.initialize()
    mail.enable()
    mail.enable()
    assert mail.status is PluginStatus.ENABLED
    mail.disable()
    mail.disable()
    assert mail.status is PluginStatus.DISABLED
    assert mail.hooks == ["on_enable", "on_disable"]
    mail.fail("on_enable")
    with pytest.raises(ValueError, match="mail failed"):
        mail.enable()
    assert mail.status is PluginStatus.ERROR


def test_initialize_plugin_takes_new_defaults_while_disabled() -> None:
    manager = started(None, mail := Mail(), port=25)
    manager.initialize_plugin("mail", {"host": "a"})
    manager.enable_plugin("mail")
    with pytest.raises(PluginStateError, match="disable it first"):
        manager.initialize_plugin("mail", {})
    assert mail._config == {"host": "a"}


def test_initialize_plugin_refuses_what_is_not_dict() -> None:
    for config in ([], [("port", 25)]):
        with pytest.raises(InvalidConfigError, match="'mail': config must be a dict"):
            started(None, Mail()).initialize_plugin("mail", config)  # type: ignore[arg-type]


def test_initialize_plugin_passes_hook_error_on() -> None:
    manager, mail = PluginManager(), Mail()
    mail.initialize = raising(OSError("no licence"))  # type: ignore[method-assign]
    manager.register_plugin(mail)
    with pytest.raises(OSError, match="no licence"):
        manager.initialize_plugin("mail")
    assert mail.status is PluginStatus.REGISTERED


def test_initialize_plugin_names_missing_super_call() -> None:
    class Forgetful(Recorder):
        def initialize(self, config: dict[str, Any] | None = None) -> None:
            pass

    with pytest.raises(PluginStateError, match=r"does not call super\(\)\.initialize"):
        started(None, Forgetful("mail"))


@pytest.mark.parametrize("names", [[None], [["a"]], [{"a": 1}]])
@pytest.mark.parametrize("what", ["dependencies", "secret_keys"])
def test_register_refuses_names_that_are_not_str(what: str, names: list[Any]) -> None:
    mail = Mail()
    mail.metadata = PluginMetadata("mail", "1", "a", "b", **{what: names})
    with pytest.raises(TypeError, match="must be lists of str"):
        PluginManager().register_plugin(mail)


@pytest.mark.parametrize(
    "method",
    ["initialize_plugin", "enable_plugin", "disable_plugin", "enable_defaults", "save_config", "update_config"],
)
def test_method_raises_when_plugin_is_not_found(method: str) -> None:
    config = [{}] if method.endswith("_config") else []
    with pytest.raises(ValueError, match="Plugin 'absent' not found: registered are 'mail'"):
        getattr(started(None, Mail()), method)("absent", *config)


def test_getters_of_enabled_plugins_keep_order_of_registration() -> None:
    class WithRoutes(Recorder):
        def get_blueprint(self) -> Any:
            return f"blueprint of {self.metadata.name}"

        def get_url_prefix(self) -> str:
            return f"/{self.metadata.name}"

    manager = started(None, WithRoutes("b"), mail := Mail(), a := WithRoutes("a"), WithRoutes("c"))
    manager.enable_defaults("a", "b", "mail")
    assert manager.get_enabled_plugins()[1:] == [mail, a]
    assert manager.get_plugin_blueprints() == [("blueprint of b", "/b"), ("blueprint of a", "/a")]
