"""Alembic's environment. include_name keeps autogenerate from dropping the tables of plugin_store and yoyo."""

import os

from alembic import context
from models import Base
from sqlalchemy import create_engine

PLUGIN_STORE_TABLES = {"plugin_config", "_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock"}


def include_name(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name not in PLUGIN_STORE_TABLES


engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()
