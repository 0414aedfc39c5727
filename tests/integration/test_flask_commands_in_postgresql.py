"""``flask plugins`` on a real database."""

from databases import UNREADABLE_ROW, Connection
from flask import Flask
from recorder import Recorder, started

from plugin_store import PluginConfigRepository
from plugin_store.flask import init_app


def test_commands_switch_all_names_or_none(repository: PluginConfigRepository, connection: Connection) -> None:
    connection.execute("ALTER TABLE plugin_config ADD CONSTRAINT only_first CHECK (plugin_name <> 'second')")
    app = Flask("service")
    init_app(app, started(repository, Recorder("first"), Recorder("second")))
    result = app.test_cli_runner().invoke(args=["plugins", "enable", "first", "second"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert repository.get_all() == []


def test_list_names_unreadable_row_beside_the_others(
    repository: PluginConfigRepository, connection: Connection
) -> None:
    app = Flask("service")
    init_app(app, started(repository, Recorder("mail"), Recorder("odd")))
    repository.save("mail", "enabled")
    connection.execute(UNREADABLE_ROW)
    result = app.test_cli_runner().invoke(args=["plugins", "list"])
    assert (result.exit_code, "mail (1.0.0) — ENABLED\n" in result.stdout) == (1, True)
    assert "plugin 'odd' cannot be read" in result.stderr
