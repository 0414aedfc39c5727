"""Applies plugin_store's migrations after Django's, to the test database too."""

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate

from plugin_store.cli.migrate import migrate

from . import plugins


class SiteConfig(AppConfig):
    name = "django_site"

    def ready(self) -> None:
        post_migrate.connect(migrate_plugins, sender=self)


def migrate_plugins(using: str, **_: Any) -> None:
    migrate(plugins.conninfo(connections[using].settings_dict))
