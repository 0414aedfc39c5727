"""A network between a client and the server, for tests to break."""

import ctypes
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from psycopg.conninfo import conninfo_to_dict

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # a socket filter of one instruction: keep nothing
Change = Callable[[bytes], bytes]


class Relay:
    """Relays TCP connections to the server of a URL; a context manager. ``url`` leads through it.

    ``silence()`` passes nothing on, as a stopped proxy does. ``drop_packets()`` drops what clients send,
    as a dead network does (Linux). ``restore()`` ends both. ``to_server`` and ``to_client`` change the bytes that pass.
    If they raise OSError, the connection closes.
    """

    def __init__(self, url: str, to_server: Change = bytes, to_client: Change = bytes) -> None:
        self._target = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        self._to_server, self._to_client = to_server, to_client
        self._flows = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=50)

    @property
    def url(self) -> str:
        user = f"{self._target['user']}:{self._target.get('password', '')}"
        port = self._listening.getsockname()[1]
        return f"postgresql://{user}@127.0.0.1:{port}/{self._target['dbname']}?sslmode=disable"

    def silence(self) -> None:
        self._flows.clear()

    def drop_packets(self) -> None:
        code = ctypes.create_string_buffer(DROP_ALL)
        program = struct.pack("HP", 1, ctypes.addressof(code))
        for each in self._clients():
            each.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def restore(self) -> None:
        self._flows.set()
        for each in self._clients():
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, struct.pack("i", 0))

    def __enter__(self) -> "Relay":
        self.restore()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        _shut(self._listening, *(end for pair in self._pairs for end in pair))
        self._listening.close()

    def _clients(self) -> list[socket.socket]:
        return [self._listening, *(client for client, _ in self._pairs if client.fileno() >= 0)]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._listening.accept()[0], self._connect()
                self._pairs.append((client, server))
                for way in ((client, server, self._to_server), (server, client, self._to_client)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._target["host"], self._target["port"]
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pump(self, source: socket.socket, sink: socket.socket, change: Change) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait(60)
                sink.sendall(change(data))
        self._flows.wait(60)
        _shut(source, sink)
        source.close()


def made_up_pid(data: bytes) -> bytes:
    """Change the server's process id in BackendKeyData, as all poolers do."""
    return re.sub(rb"(?<=K\0\0\0\x0c)....(?=....Z)", b"\0\0\0\1", data, flags=re.DOTALL)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
