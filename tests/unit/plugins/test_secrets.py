"""References to secrets, and what keeps secrets from being shown."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, raising, rows, started

from plugin_store import InMemoryPluginConfigStore, InvalidConfigError, PluginManager
from plugin_store.errors import UnresolvedReferenceError

SECRET = "walnut-9031"
REFERENCE = {"$env": "MAIL_PASSWORD"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)


def mail_with(config: dict[str, Any], *secret_keys: str) -> tuple[PluginManager, Recorder]:
    """Return a manager with the plugin ``mail``, whose row is enabled and has this config."""
    store, mail = InMemoryPluginConfigStore(), Recorder("mail", secret_keys=secret_keys)
    store.save("mail", "enabled", config)
    return started(store, mail), mail


def password_from(reference: Any) -> Any:
    """Return what a plugin reads as its password, which is this reference."""
    mail = Recorder("mail")
    mail.set_config("login", {"password": [reference]})
    return mail.get_config("login")["password"][0]


def error_from(reference: Any) -> str:
    with pytest.raises(UnresolvedReferenceError) as caught:
        password_from(reference)
    assert caught.value.__context__ is None  # an error of the decoder would show the secret
    return str(caught.value)


def test_get_config_resolves_references_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    manager, mail = mail_with({"a": {"list": [REFERENCE, {"b": REFERENCE}], "plain": 1}})
    manager.load_persisted_state()
    assert mail.get_config("a") == {"list": [SECRET, {"b": SECRET}], "plain": 1}
    assert mail._config == {"a": {"list": [REFERENCE, {"b": REFERENCE}], "plain": 1}}
    monkeypatch.setenv("MAIL_PASSWORD", "changed")
    assert mail.get_config("a")["list"][0] == "changed"


def test_whole_config_is_never_a_reference() -> None:
    manager, mail = mail_with({})
    mail.parse = lambda config: config
    manager.save_config("mail", REFERENCE)
    assert mail.settings == REFERENCE
    assert mail.get_config("$env") == "MAIL_PASSWORD"


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2\n\n", "hunter2\n"),
        (b" a\r\nb \n", " a\r\nb "),
        (b"\xef\xbb\xbfp\xc3\xa4ssword", "pässword"),
        (b"", ""),
    ],
)
def test_get_config_reads_secret_file(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert password_from({"$file": str(tmp_path / "secret")}) == secret


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"$env": "ABSENT"}, "needs the environment variable 'ABSENT'"),
        ({"$file": "/absent/file"}, "needs the file '/absent/file', which cannot be read: No such file"),
        ({"$file": "/"}, "needs the file '/', which cannot be read"),
        ({"$env": "MAIL_PASSWORD", "$file": "x"}, "is not a reference"),
        ({"$env": "MAIL_PASSWORD", "more": 1}, "is not a reference"),
        ({"$env": 1}, "is not a reference"),
        ({"$file": "a\0b"}, "needs 'a"),
    ],
)
def test_get_config_names_reference_that_cannot_be_read(reference: dict[str, Any], problem: str) -> None:
    error = error_from(reference)
    assert error.startswith("plugin 'mail': config.login.password[0] ") and problem in error


def test_secret_file_may_be_unusable(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"walnut\xff")
    error = error_from({"$file": str(path)})
    assert "not text in UTF-8" in error and "walnut" not in error
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in error_from({"$file": str(path)})  # and it does not block


def test_plugin_starts_when_its_secret_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_PASSWORD")
    manager, mail = mail_with({"password": REFERENCE})
    reason = manager.load_persisted_state().skipped["mail"]
    assert "plugin 'mail': config.password needs the environment variable 'MAIL_PASSWORD'" in reason
    for call in (lambda: manager.enable_plugin("mail"), lambda: manager.save_config("mail", {"p": REFERENCE})):
        with pytest.raises(UnresolvedReferenceError, match="MAIL_PASSWORD"):
            call()
    assert (mail.hooks, rows(manager.store)) == ([], {"mail": ("enabled", {"password": REFERENCE})})
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    assert manager.sync().restored == ["mail"]


@pytest.mark.parametrize("value", [SECRET, 9031, [REFERENCE, SECRET], {"new": SECRET}, {"$env": "A", "b": "c"}])
def test_plain_secret_is_never_stored(value: Any) -> None:
    manager, mail = mail_with({}, "password")
    for call in (manager.save_config, manager.update_config, manager.check_config):
        with pytest.raises(InvalidConfigError, match=r"plugin 'mail': config\.password is secret") as caught:
            call("mail", {"password": value})
        assert SECRET not in str(caught.value)
    mail.set_config("password", value)
    with pytest.raises(InvalidConfigError, match="is secret"):
        manager.enable_plugin("mail")
    manager.disable_plugin("mail")
    manager.store.delete("mail")
    manager.enable_defaults("mail")
    assert rows(manager.store) == {}


@pytest.mark.parametrize("value", [REFERENCE, None, [], {}, {"old": [REFERENCE], "new": None}])
def test_secret_may_be_stored_as_reference(value: Any) -> None:
    manager, _ = mail_with({}, "password")
    manager.save_config("mail", {"password": value, "port": 25})
    assert rows(manager.store)["mail"][1] == {"password": value, "port": 25}


@pytest.mark.parametrize("where", ["reference", "default", "pending", "dropped", "was pending"])
@pytest.mark.parametrize("hook", ["on_enable", "on_disable", "on_config_changed", "validate_config"])
def test_secret_is_not_shown_when_hook_raises(hook: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mail = Recorder("mail", secret_keys=["password"])
    manager = started(None, mail, **{"password": SECRET} if where == "default" else {})
    manager.store.save("mail", "enabled", {"password": REFERENCE} if where in ("reference", "dropped") else {})
    events: list[object] = []
    for name in ("failed", "config_changed", "disabled"):
        manager.event_dispatcher.add_listener(f"plugin.{name}", lambda event: events.append(event.data))
    if hook != "on_enable":
        manager.load_persisted_state()
    if where in ("pending", "was pending"):
        mail.set_config("password", REFERENCE)
    if where == "was pending":
        assert mail.get_config("password") == SECRET
        mail.set_config("password", None)
    error = ValueError(f"login refused: {SECRET}")
    error.__cause__ = OSError(SECRET)
    mail.fail(hook, error=error)
    if hook == "validate_config":
        mail.parse = raising(error)
    keeps = where == "reference" or (where == "dropped" and hook == "on_enable")
    manager.store.save_config("mail", {"n": 1, "password": REFERENCE} if keeps else {"n": 1})
    if hook == "on_disable":
        manager.store.save("mail", "disabled")
    report = manager.sync()
    assert "ValueError" in (report.failed | report.skipped)["mail"]
    for text in (str(report), caplog.text, str(events), str(manager.last_report)):
        assert SECRET not in text


def test_refused_config_does_not_chain_secret() -> None:
    manager, mail = mail_with({"password": REFERENCE})
    mail.parse = raising(ValueError(SECRET))
    with pytest.raises(InvalidConfigError, match="refuses this config: ValueError") as caught:
        manager.save_config("mail", {"password": REFERENCE})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_error_text_is_shown_without_secrets() -> None:
    manager, mail = mail_with({"password": None}, "password")
    mail.fail("on_enable", error=OSError("disk is full"))
    assert manager.load_persisted_state().failed == {"mail": "on_enable raised OSError: disk is full"}


def test_events_hold_references_and_no_plain_secrets() -> None:
    mail = Recorder("mail", secret_keys=["password"])
    manager = started(None, mail, password=SECRET)
    data: list[dict[str, Any]] = []
    manager.event_dispatcher.add_listener("plugin.config_changed", lambda event: data.append(event.data))
    manager.enable_plugin("mail")
    manager.save_config("mail", {"password": REFERENCE})
    assert (data[0]["before"], data[0]["after"]) == ({"password": "***"}, {"password": REFERENCE})
    assert mail.calls[-1][2:] == ({"password": SECRET}, {"password": REFERENCE})
