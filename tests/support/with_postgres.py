"""Run a command beside a PostgreSQL that is installed in a folder: its programs are in FOLDER/bin.

    python with_postgres.py FOLDER COMMAND [ARGUMENT ...]

PLUGIN_STORE_TEST_DATABASE_URL names the server to the command. The server ends with the command.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from servers import roomy_memory_folder
from workers import as_nobody, free_port

SECONDS_TO_START = 60


def main(folder: Path, command: list[str]) -> int:
    """Run the command beside a new server, and return the command's exit status."""
    user = as_nobody()
    home = Path(tempfile.mkdtemp(prefix="pgs-", dir=roomy_memory_folder()))
    home.chmod(0o755)
    data, password, port = home / "data", secrets.token_hex(16), free_port()
    # A copy, since root runs the server as nobody, and nobody may not enter every folder.
    programs = Path(shutil.copytree(folder, home / "postgres", symlinks=True)) / "bin"
    data.mkdir(mode=0o700)
    (home / "password").write_text(password)
    if user:
        os.chown(data, user["user"], user["group"])
    try:
        run_initdb(programs, home, user)
        # Nobody needs this data after a crash, so nothing waits for the disk.
        options = [f"--port={port}", "--listen_addresses=127.0.0.1", "--fsync=off", "--max_connections=200"]
        options += [f"--unix_socket_directories={data}"]
        with open(home / "log", "wb") as log:
            server = subprocess.Popen([programs / "postgres", "-D", data, *options], stdout=log, stderr=log, **user)
        try:
            url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
            await_ready(url)
            return subprocess.run(command, env=os.environ | {"PLUGIN_STORE_TEST_DATABASE_URL": url}).returncode
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(home)


def run_initdb(programs: Path, home: Path, user: dict[str, Any]) -> None:
    """Make the data folder of a server whose superuser has the password in the file."""
    options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={home / 'password'}"]
    options += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run([programs / "initdb", "-D", home / "data", *options], check=True, stdout=subprocess.DEVNULL, **user)


def await_ready(url: str) -> None:
    """Return when the server accepts connections."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            return psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
