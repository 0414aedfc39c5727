"""The source's tests of the model (its phase 1), under the names that it gives them."""

from dataclasses import FrozenInstanceError, fields

import psycopg
import pytest
from databases import Connection

from plugin_store import PluginConfig

COLUMNS = {"id", "plugin_name", "status", "config", "enabled_at", "disabled_at", "created_at", "updated_at"}


def test_plugin_config_model_has_required_columns(connection: Connection) -> None:
    assert {field.name for field in fields(PluginConfig)} == COLUMNS
    found = connection.execute("SELECT * FROM plugin_config").description
    assert {column.name for column in found or []} == COLUMNS


def test_plugin_config_default_status_is_disabled() -> None:
    assert PluginConfig(plugin_name="test").status == "disabled"


def test_plugin_config_stores_json_config() -> None:
    assert PluginConfig(plugin_name="test", config={"key": "value"}).config["key"] == "value"


def test_plugin_config_name_is_unique(connection: Connection) -> None:
    insert = "INSERT INTO plugin_config (plugin_name) VALUES ('test')"
    connection.execute(insert)
    with pytest.raises(psycopg.IntegrityError, match="plugin_config_plugin_name_key"):
        connection.execute(insert)


def test_new_plugin_config_is_unstored_and_frozen() -> None:
    one, other = PluginConfig(plugin_name="one"), PluginConfig(plugin_name="other")
    assert {getattr(one, name) for name in COLUMNS - {"plugin_name", "status", "config"}} == {None}
    one.config["key"] = "value"
    assert other.config == {}
    with pytest.raises(FrozenInstanceError):
        one.status = "enabled"  # type: ignore[misc]  # what is being tested
