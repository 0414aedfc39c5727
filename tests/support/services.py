"""Starts a service as its operator would, asks each of its processes, and stops it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from programs import completed
from workers import environment, wait_until

LIMIT_SECONDS = 60
AT_ONCE = 8


def run(module: str, *arguments: str, database_url: str, folder: Path | None = None) -> str:
    """Run ``python -m module`` to its end and return what it printed. It must succeed."""
    done = completed(sys.executable, "-m", module, *arguments, cwd=folder, DATABASE_URL=database_url)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(
    command: list[str], *, folder: Path, log: Path, database_url: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service for a ``with`` block. SIGTERM must end it, with no trouble in its log and no session left."""
    before = sessions(database_url)
    with log.open("wb") as output:
        env = environment(DATABASE_URL=database_url, PYTHONUNBUFFERED="1", **more)
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
        assert process.poll() is None, "the service has ended"
        process.terminate()
        process.wait(LIMIT_SECONDS)
        assert wait_until(lambda: sessions(database_url) <= before, LIMIT_SECONDS), "a session is left"
        assert "Traceback" not in (text := log.read_text()) and "couldn't stop thread" not in text
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sys.stderr.write(log.read_text())  # pytest shows it if the test fails


def sessions(database_url: str) -> set[int]:
    """Return the process ids of the sessions on this database, without its own."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in rows}


def ask(port: int, path: str = "/healthz", method: str = "GET") -> dict[str, Any]:
    """Return the JSON object that a process answers and the HTTP status; status 0 if nothing answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    except OSError:
        status, body = 0, b""
    return {"status": status} | (json.loads(body) if body.startswith(b"{") else {})


def ask_all(question: Callable[[], dict[str, Any]], processes: int = 2) -> dict[int, list[dict[str, Any]]]:
    """Ask until so many processes have answered; return the answers of each."""
    answers: dict[int, list[dict[str, Any]]] = {}

    def all_answered() -> bool:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for answer in threads.map(lambda _: question(), range(AT_ONCE)):
                if "process" in answer:
                    answers.setdefault(answer["process"], []).append(answer)
        return len(answers) == processes

    assert wait_until(all_answered, LIMIT_SECONDS), f"{processes} processes should answer, and did: {answers}"
    return answers


def await_all(question: Callable[[], dict[str, Any]], processes: int = 2, **expected: object) -> None:
    """Ask until so many processes have answered with these values, each of them in its last answer."""
    last: dict[int, dict[str, Any]] = {}

    def all_agree() -> bool:
        last.update({process: answers[-1] for process, answers in ask_all(question, processes).items()})
        return all(expected.items() <= answer.items() for answer in last.values())

    assert wait_until(all_agree, LIMIT_SECONDS), f"expected {expected}, got {last}"
