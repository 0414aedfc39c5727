"""The host's own tables, and a change of theirs and ours in one transaction."""

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from plugin_store import PluginConfigRepository


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def place_last_order(session: Session) -> None:
    """Add an order and disable a plugin. The caller's commit or rollback holds for both."""
    session.add(Order())
    connection = session.connection().connection.driver_connection
    PluginConfigRepository(connection).save("greeter", "disabled")
