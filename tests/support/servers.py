"""The PostgreSQL server that the tests share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Server:
    """What pytest-postgresql asks of a server, and a conninfo for each database on it."""

    host: str
    port: int
    user: str
    password: str
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None

    def url(self, dbname: str, **more: str) -> str:
        query = "&".join(f"{key}={value}" for key, value in {"host": self.host, "port": self.port, **more}.items())
        return f"postgresql://{self.user}:{self.password}@/{dbname}?{query}"
