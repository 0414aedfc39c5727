"""Run a command beside a PostgreSQL that is installed in a folder: its programs are in FOLDER/bin.

    python with_postgres.py FOLDER COMMAND [ARGUMENT ...]

PLUGIN_STORE_TEST_DATABASE_URL names the server to the command. The server ends with the command.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import Server, roomy_memory_folder

from plugin_store.sandbox.embedded import EmbeddedPostgres


def main(folder: Path, command: list[str]) -> int:
    """Run the command beside a new server, and return the command's exit status."""
    tempfile.tempdir = roomy_memory_folder()
    with tempfile.TemporaryDirectory() as home:
        # A copy, since root runs the server as nobody, and nobody may not enter every folder.
        programs = shutil.copytree(folder, Path(home, "postgres"), symlinks=True) / "bin"
        os.chmod(home, 0o755)
        with EmbeddedPostgres(programs) as postgres:
            url = Server(postgres.host, postgres.port, postgres.user, postgres.password).url("postgres")
            return subprocess.run(command, env=os.environ | {"PLUGIN_STORE_TEST_DATABASE_URL": url}).returncode


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
