"""psql, connected as the application is: the same server, role, TLS and startup options.

All parameters are passed in the environment, because every local user can read a command line.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from app.errors import Conflict
from ops.embedded.binaries import BINARIES_VARIABLE, FOLDER_PATTERNS, POSTGRES_WHEEL, wheel_folder
from ops.embedded.server import minimal_environment

APPLICATION_NAME = "parley-psql"  # in pg_stat_activity

# libpq's parameters and their environment variables (PostgreSQL manual, "Environment Variables" of libpq).
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "passfile": "PGPASSFILE",
    "requirepeer": "PGREQUIREPEER",
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslsni": "PGSSLSNI",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
}
# What a terminal program needs. Other variables may hold secrets of Parley, and psql can show them.
_KEPT = (
    "HOME",
    "TERM",
    "COLORTERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PAGER",
    "LESS",
    "EDITOR",
    "VISUAL",
    "COLUMNS",
    "LINES",
)
_KEPT_PREFIX = "PSQL"  # psql's own, such as PSQL_HISTORY


def find_psql() -> Path:
    """Return the first psql: on the PATH, in PostgreSQL's folders, or in the wheel of the embedded server.

    Raises `Conflict` if there is none.
    """
    for candidate in _candidates():
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate
    raise Conflict(
        "psql is not installed here: install the package postgresql-client, or set"
        f" {BINARIES_VARIABLE} to the folder of PostgreSQL's programs."
    )


def psql_environment(connection: Connection) -> dict[str, str]:
    """Return the environment in which psql connects as `connection` is connected."""
    driver: Any = connection.connection.dbapi_connection
    parameters: Mapping[str, str] = driver.get_dsn_parameters()
    kept = {name: os.environ[name] for name in os.environ if name in _KEPT or name.startswith(_KEPT_PREFIX)}
    connected = {variable: parameters[name] for name, variable in _VARIABLES.items() if parameters.get(name, "") != ""}
    password = driver.info.password or ""
    return {
        **minimal_environment(),
        "LC_ALL": "C.UTF-8",
        **kept,
        **connected,
        "PGAPPNAME": APPLICATION_NAME,
        "PGCLIENTENCODING": "UTF8",
        **({"PGPASSWORD": password} if password else {}),
    }


def run_psql(program: Path, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> int:
    """Run psql on this terminal until it ends, and return its exit code. Until then Ctrl-C interrupts psql alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(  # noqa: S603  # a fixed program, and arguments of the operator
            [str(program), *arguments],
            env=dict(environment),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            check=False,
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(BINARIES_VARIABLE):
        yield Path(chosen) / "psql"
        return
    if on_path := shutil.which("psql"):
        yield Path(on_path)
    for pattern in FOLDER_PATTERNS:
        yield from sorted((folder / "psql" for folder in Path("/").glob(pattern.lstrip("/"))), reverse=True)
    if (wheel := wheel_folder(POSTGRES_WHEEL)) is not None:
        yield wheel / "pginstall" / "bin" / "psql"
