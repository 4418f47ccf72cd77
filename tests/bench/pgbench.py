"""pgbench, which comes with PostgreSQL: the speed of the server without an application."""

import os
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from ops.embedded.binaries import find_postgres
from ops.embedded.site import open_site
from tests.bench.environment import Environment

CLIENTS = 8


def run_pgbench(environment: Environment, script: str, seconds: int) -> str:
    """Run `script` with CLIENTS clients and prepared statements for `seconds`, and return pgbench's output."""
    url = make_url(environment.database_url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [
                *(_program(), "--no-vacuum", "--protocol", "prepared", "--report-per-command"),
                *("--client", str(CLIENTS), "--jobs", "2", "--time", str(seconds), "--file", file.name),
                *("--host", str(url.host), "--port", str(url.port), "--username", str(url.username), str(url.database)),
            ],
            env={**os.environ, "PGPASSWORD": str(url.password)},
            capture_output=True,
            text=True,
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-2000:]
    return output


def _program() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return str(find_postgres(open_site(Path(folder)), None).folder / "pgbench")
