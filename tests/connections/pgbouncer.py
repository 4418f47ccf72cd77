"""A real PgBouncer (Debian: pgbouncer) in front of a test's database."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from tests.faults.live_server import free_port
from tests.processes import reaped
from tests.waiting import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
POOL_SIZE = 4
# What PgBouncer itself keeps equal for a client and its server connection.
TRACKED = ("application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings")

CONFIGURATION = Path(__file__).with_suffix(".ini")
LEFT = f"""
SELECT 'setting ' || name || ' = ' || setting FROM pg_settings
 WHERE source = 'session' AND name NOT IN {TRACKED!r}
UNION ALL SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable"""


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer; `url` is that of the database through it."""

    url: str

    def leftovers(self) -> list[str]:
        """Return what clients have left in the sessions of the server, each of which this uses at the same time."""
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        found: list[str] = []
        with ExitStack() as stack:
            for _ in range(POOL_SIZE):
                connection: Any = stack.enter_context(closing(psycopg2.connect(plain)))
                with connection.cursor() as cursor:  # in a transaction, which occupies a connection of the server
                    cursor.execute(LEFT)
                    found += [row[0] for row in cursor.fetchall()]
        return found


@contextmanager
def pgbouncer(server: str, *, mode: str = "transaction", extra: str = "") -> Iterator[PgBouncer]:
    """Run PgBouncer in front of the database at `server`. `extra` are lines of its configuration."""
    if PROGRAM is None:
        pytest.skip("no PgBouncer is installed (Debian: pgbouncer)")
    url, port = make_url(server), free_port()
    folder = Path(tempfile.mkdtemp(prefix="parley-pgbouncer-"))
    folder.chmod(0o755)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.read_text().format(
            host=url.host, port=url.port, user=url.username, password=url.password, client_port=port, mode=mode,
            pool_size=POOL_SIZE, extra=extra,
        )
    )  # fmt: skip
    as_user = ["-u", "nobody"] if os.getuid() == 0 else []  # it refuses to run as root
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, *as_user, str(configuration)], stdout=log, stderr=log)
    with reaped(process):
        wait_until(lambda: _accepts(port), lambda: (folder / "log").read_text())
        yield PgBouncer(url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False))
    shutil.rmtree(folder, ignore_errors=True)


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
