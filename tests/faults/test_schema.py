"""The table is older or newer than the code, or in another schema: it works, or the error says what to run."""

import pytest
from databases import Connection
from methods import METHODS
from psycopg.conninfo import make_conninfo
from recorder import Service
from watching import following, service_on
from workers import wait_until

from plugin_store import PluginConfig, PluginConfigRepository, SchemaError
from plugin_store.cli.migrate import migrate

RUN = "run `plugin-store migrate` or `yoyo apply -d postgresql"
NEWER = {
    "a column that may be null": "ALTER TABLE plugin_config ADD owner text",
    "a column with a default": "ALTER TABLE plugin_config ADD owner text NOT NULL DEFAULT 'nobody'",
    "columns in another order": "ALTER TABLE plugin_config DROP disabled_at, ADD disabled_at timestamptz",
    "another migration": """INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)
                            VALUES ('ff', 'plugin_store.0099.of-the-future', now())""",
}


@pytest.mark.parametrize("column", PluginConfig.__slots__)
def test_missing_column_is_named_and_stops_nothing(
    repository: PluginConfigRepository, connection: Connection, column: str
) -> None:
    version = repository.save("a", "enabled").updated_at
    service = Service(repository, {"a": ()})
    connection.execute(f"ALTER TABLE plugin_config RENAME {column} TO old".encode())
    for name, call in METHODS.items():
        if name not in ("delete", "save_many"):  # these need only some of the columns
            with pytest.raises(SchemaError, match="plugin_config is out of date") as caught:
                call(repository, version)
            assert RUN in str(caught.value) and column in str(caught.value)
    for change in (service.manager.disable_plugin, service.manager.enable_plugin):
        with pytest.raises(SchemaError, match=RUN):
            change("a")
    assert service.enabled == {"a"} and service["a"].running


@pytest.mark.parametrize("what", NEWER)
def test_newer_table_works(database_url: str, connection: Connection, what: str) -> None:
    connection.execute(NEWER[what].encode())
    repairs = ["repair of plugin_config_times_readable"] if "DROP disabled_at" in NEWER[what] else []
    assert migrate(database_url) == repairs
    with PluginConfigRepository.open(database_url) as repository:
        version = repository.save("analytics", "disabled").updated_at
        for call in METHODS.values():
            call(repository, version)
            version = repository.get_all()[0].updated_at
        assert Service(repository, {"analytics": ()}).enabled == {"analytics"}


def test_service_follows_table_in_another_schema(database_url: str, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA plugins; ALTER TABLE plugin_config SET SCHEMA plugins")
    url = make_conninfo(database_url, options="-c search_path=public,plugins")
    with PluginConfigRepository.open(url) as repository:
        service = service_on(repository)
        with following(service, url):
            repository.save("a", "disabled")
            connection.execute("UPDATE plugins.plugin_config SET status = 'enabled'")
            assert wait_until(lambda: service.enabled == {"a"})
