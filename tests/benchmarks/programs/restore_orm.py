"""Restore 100 plugins by SQLAlchemy's ORM."""

import os
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from plugins import PLUGINS
from sqlalchemy import DateTime, Uuid, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Model(Base):
    """The table."""

    __tablename__ = "plugin_config"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    plugin_name: Mapped[str]
    status: Mapped[str]
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    enabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["DATABASE_URL"]))
with Session(engine) as session:
    for model in session.query(Model).all():
        if plugin := PLUGINS.get(model.plugin_name):
            plugin.enabled, plugin.config = model.status == "enabled", model.config
engine.dispose()
assert all(plugin.enabled for plugin in PLUGINS.values())
