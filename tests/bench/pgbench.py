"""pgbench, which comes with PostgreSQL: what the server does when nobody else is in the way."""

import os
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from ops.embedded.binaries import find_postgres
from ops.embedded.site import open_site
from tests.bench.bench import Place

CLIENTS = 8


def pgbench(place: Place, script: str, seconds: int) -> str:
    """What it says of CLIENTS that run `script` for so long, each of its statements prepared."""
    url = make_url(place.database_url)
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
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    return said


def _program() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return str(find_postgres(open_site(Path(folder)), None).folder / "pgbench")
