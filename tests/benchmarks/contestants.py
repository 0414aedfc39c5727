"""The ways to do a store's work that are compared. All use the same table, and read and return whole rows.

What comes back is what each gives its user: tuples, dicts, dataclasses, or objects of the ORM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from sqlalchemy import DateTime, Engine, MetaData, Table, Uuid, create_engine, func, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from plugin_store import PluginConfig, PluginConfigRepository
from plugin_store.stores.postgres import GET_ALL, GET_BY_NAME, SAVE, SAVE_MANY

Row = tuple[str, str, dict[str, Any]]  # name, status, config


class Contestant(NamedTuple):
    """One way, ready to work."""

    get_by_name: Callable[[str], object]
    save: Callable[[str, str, dict[str, Any]], object]
    get_all: Callable[[], list[Any]]
    save_many: Callable[[list[Row]], object]
    driver: Callable[[], psycopg.Connection[Any]]  # a connection that the next call uses, when there is only one


@contextmanager
def ours(url: str, size: int = 1) -> Iterator[Contestant]:
    """plugin_store, as the README opens it."""
    with PluginConfigRepository.open(url, min_size=size, max_size=size) as repository:

        def driver() -> psycopg.Connection[Any]:
            with repository._connections.cursor() as cursor:
                return cursor.connection

        yield Contestant(
            repository.get_by_name,
            repository.save,
            repository.get_all,
            lambda rows: repository.save_many(PluginConfig(*row) for row in rows),
            driver,
        )


@contextmanager
def floor(url: str, size: int = 1) -> Iterator[Contestant]:
    """The least that psycopg can do for the same work: a held connection and cursor, prepared, tuples, no checks."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor()

        def save(name: str, status: str, config: dict[str, Any]) -> object:
            values = {"plugin_name": name, "status": status, "config": Jsonb(config)}
            return cursor.execute(SAVE, values, prepare=True).fetchone()

        def save_many(rows: list[Row]) -> None:
            values = [{"plugin_name": name, "status": status, "config": config} for name, status, config in rows]
            cursor.execute(SAVE_MANY, {"configs": Jsonb(values)}, prepare=True)

        yield Contestant(
            lambda name: cursor.execute(GET_BY_NAME, {"plugin_name": name}, prepare=True).fetchone(),
            save,
            lambda: cursor.execute(GET_ALL, prepare=True).fetchall(),
            save_many,
            lambda: connection,
        )


@contextmanager
def obvious(url: str, size: int = 1) -> Iterator[Contestant]:
    """What one writes first: a pool, ``with pool.connection()``, dict rows, executemany."""
    with ConnectionPool(url, min_size=size, max_size=size, kwargs={"row_factory": dict_row}, open=True) as pool:
        pool.wait()

        def get_by_name(name: str) -> object:
            with pool.connection() as connection:
                return connection.execute(GET_BY_NAME, {"plugin_name": name}).fetchone()

        def save(name: str, status: str, config: dict[str, Any]) -> object:
            with pool.connection() as connection:
                values = {"plugin_name": name, "status": status, "config": Jsonb(config)}
                return connection.execute(SAVE, values).fetchone()

        def get_all() -> list[Any]:
            with pool.connection() as connection:
                return connection.execute(GET_ALL).fetchall()

        def save_many(rows: list[Row]) -> None:
            with pool.connection() as connection, connection.cursor() as cursor:
                values = [{"plugin_name": name, "status": status, "config": Jsonb(c)} for name, status, c in rows]
                cursor.executemany(SAVE, values)

        def driver() -> psycopg.Connection[Any]:
            with pool.connection() as connection:
                return connection

        yield Contestant(get_by_name, save, get_all, save_many, driver)


@contextmanager
def _engine(url: str, size: int) -> Iterator[Engine]:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), pool_size=size, max_overflow=0
    )
    try:
        yield engine
    finally:
        engine.dispose()


def _driver(engine: Engine) -> psycopg.Connection[Any]:
    borrowed = engine.raw_connection()
    try:
        connection: psycopg.Connection[Any] = borrowed.driver_connection
        return connection
    finally:
        borrowed.close()


class _Base(DeclarativeBase):
    pass


class Model(_Base):
    """The table as an ORM's model."""

    __tablename__ = "plugin_config"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    plugin_name: Mapped[str]
    status: Mapped[str] = mapped_column(default="disabled")
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    enabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


@contextmanager
def core(url: str, size: int = 1) -> Iterator[Contestant]:
    """SQLAlchemy Core, with its upsert for PostgreSQL."""
    with _engine(url, size) as engine:
        table = Table("plugin_config", MetaData(), autoload_with=engine)
        by_name, everything = select(table), select(table).order_by(table.c.plugin_name)

        def get_by_name(name: str) -> object:
            with engine.connect() as connection:
                return connection.execute(by_name.where(table.c.plugin_name == name)).first()

        def upsert() -> Any:
            statement = insert(table)
            changes = {"status": statement.excluded.status, "config": statement.excluded.config}
            return statement.on_conflict_do_update(index_elements=[table.c.plugin_name], set_=changes)

        def save(name: str, status: str, config: dict[str, Any]) -> object:
            with engine.begin() as connection:
                values = {"plugin_name": name, "status": status, "config": config}
                return connection.execute(upsert().returning(table), values).first()

        def get_all() -> list[Any]:
            with engine.connect() as connection:
                return list(connection.execute(everything).all())

        def save_many(rows: list[Row]) -> None:
            with engine.begin() as connection:
                values = [{"plugin_name": name, "status": status, "config": config} for name, status, config in rows]
                connection.execute(upsert(), values)

        yield Contestant(get_by_name, save, get_all, save_many, lambda: _driver(engine))


@contextmanager
def orm(url: str, size: int = 1) -> Iterator[Contestant]:
    """SQLAlchemy's ORM: query, then insert or update, then commit."""
    with _engine(url, size) as engine:

        def find(session: Session, name: str) -> Model | None:
            return session.query(Model).filter_by(plugin_name=name).first()

        def put(session: Session, name: str, status: str, config: dict[str, Any]) -> Model:
            model = find(session, name)
            if model is None:
                model = Model(plugin_name=name)
                session.add(model)
            model.status, model.config = status, config
            return model

        def get_by_name(name: str) -> object:
            with Session(engine) as session:
                return find(session, name)

        def save(name: str, status: str, config: dict[str, Any]) -> object:
            with Session(engine) as session:
                model = put(session, name, status, config)
                session.commit()
                session.refresh(model)
                return model

        def get_all() -> list[Any]:
            with Session(engine) as session:
                return session.query(Model).order_by(Model.plugin_name).all()

        def save_many(rows: list[Row]) -> None:
            with Session(engine) as session:
                for row in rows:
                    put(session, *row)
                session.commit()

        yield Contestant(get_by_name, save, get_all, save_many, lambda: _driver(engine))


CONTESTANTS = {"plugin_store": ours, "floor": floor, "obvious": obvious, "core": core, "orm": orm}
