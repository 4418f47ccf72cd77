"""Scratch databases of drills. No other database is ever dropped.

The name of a scratch database contains a random part and a hash of it with the source, so only a drill of the same
source can create it. A database that a killed drill left is therefore recognized by its name, even without its comment.
"""

import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import DBAPIError, OperationalError

from app.database import driver_message, make_engine
from app.repositories.statement import Statement
from ops import embedded
from ops.backup.errors import RestoreFailed
from ops.backup.target import Target
from ops.embedded.site import open_site

MARK = "Scratch database of a Parley restore drill"
EMBEDDED = "embedded"
_log = logging.getLogger("parley.ops")
_NAME = re.compile(r"parley_drill_([0-9a-f]{8})_([0-9a-f]{8})")

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
SPACE_FACTOR = 1.5  # of the database's size, because a restore also writes WAL and temporary files

SIZE = Statement("drill.size", "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes")

# No row for roles that may not read it.
DATA_DIRECTORY = Statement(
    "drill.data_directory",
    """
SELECT setting AS folder FROM pg_catalog.pg_settings WHERE name = 'data_directory'""",
)

LEFTOVERS = Statement(
    "drill.leftovers",
    """
SELECT datname AS name, pg_catalog.shobj_description(oid, 'pg_database') AS comment
  FROM pg_catalog.pg_database WHERE datname LIKE 'parley\\_drill\\_%%'""",
)


def new_scratch_name(source: str) -> str:
    """Return a new name for a scratch database of `source`."""
    random = secrets.token_hex(4)
    return f"parley_drill_{random}_{_signature(random, source)}"


def is_scratch_database(name: str, comment: str | None, source: str) -> bool:
    """Return whether a drill of `source` created the database, so that it can be dropped."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] != _signature(match[1], source):
        return False
    return comment is None or comment.startswith(MARK)


@contextmanager
def drill_server(setting: str | None, own: Target | None, home: Path) -> Iterator[Target]:
    """Yield the server for scratch databases: `own`, the database's server, if given, else that of DRILL_DATABASE_URL.

    `embedded` starts one during the block. Raises `RestoreFailed` if the server cannot be reached, and `EmbeddedError`
    if the embedded one cannot start.
    """
    with ExitStack() as stack:
        if setting is None:
            assert own is not None  # noqa: S101  # the caller gives one of both
            yield own
            return
        if setting == EMBEDDED:
            folder = open_site(home).folder("drill")
            folder.chmod(0o711)  # the server may run as another user
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            setting = stack.enter_context(embedded.lease_postgres(folder, durable=False)).url
        yield connect_target(setting)


def check_disk_space(server: Target, needed: int) -> None:
    """Raise `RestoreFailed` if the server's disk lacks space for a database of `needed` bytes.

    A full disk would stop the live database too. Does nothing if the server is on another machine or hides its folder.
    """
    with server.connected() as admin:
        row = DATA_DIRECTORY.one(admin, {})
    folder = Path(row.folder) if row is not None and row.folder else None
    if folder is None or server.parameters["host"] not in LOCAL_HOSTS or not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    if free < needed * SPACE_FACTOR:
        raise RestoreFailed(
            f"The disk of {_address(server)} has {free:,} bytes free, too few for a copy of a database of "
            f"{needed:,}: free disk space, or set DRILL_DATABASE_URL to another server"
        )


@dataclass
class Scratch:
    """A temporary database. `drop_failed` is set at the end of its block."""

    target: Target
    drop_failed: bool = False


@contextmanager
def scratch_database(server: Target, source: str, encoding: str) -> Iterator[Scratch]:
    """Create an empty scratch database; drop it at the end of the block, also after an error.

    Raises `RestoreFailed` if this role may not create databases.
    """
    name = new_scratch_name(source)
    with server.connected() as admin:
        try:
            _create(admin, name, encoding)
        except DBAPIError as error:
            with suppress(DBAPIError):
                _drop(admin, name)
            raise RestoreFailed(
                f"No scratch database could be created on {_address(server)} ({driver_message(error)}): let this role "
                "create databases (ALTER ROLE ... CREATEDB), or set DRILL_DATABASE_URL to another server or `embedded`"
            ) from error
    scratch = Scratch(server.on(name))
    try:
        yield scratch
    finally:
        try:
            with server.connected() as admin:  # not the first connection, which would be idle during the drill
                _drop(admin, name)
        except DBAPIError as error:
            scratch.drop_failed = True
            _log.warning(
                "scratch database %s was not dropped; the next drill drops it: %s", name, driver_message(error)
            )


def drop_leftovers(server: Target, source: str) -> list[str]:
    """Drop the scratch databases that killed drills of `source` left; return their names.

    Call it only while no drill of `source` is running.
    """
    with server.connected() as admin:
        names = [row.name for row in LEFTOVERS.all(admin, {}) if is_scratch_database(row.name, row.comment, source)]
        for name in names:
            _drop(admin, name)
    return names


def _create(admin: Connection, name: str, encoding: str) -> None:
    if not (_NAME.fullmatch(name) and re.fullmatch(r"\w{1,20}", encoding)):
        raise RestoreFailed(f"{name!r} with the encoding {encoding!r} is not a valid scratch database.")
    admin.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
    admin.exec_driver_sql(f"COMMENT ON DATABASE {name} IS '{MARK}, begun at {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z'")
    admin.exec_driver_sql(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC")


def _drop(admin: Connection, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RestoreFailed(f"{name!r} is not a scratch database; it was not dropped.")
    admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _signature(random: str, source: str) -> str:
    return hashlib.sha256(f"{MARK} {random} {source}".encode()).hexdigest()[:8]


def _address(server: Target) -> str:
    return f"{server.parameters['host']}:{server.parameters['port']}"


def connect_target(url: str) -> Target:
    """Return the database at `url`. Raises `RestoreFailed` if it cannot be reached."""
    engine = make_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            return Target.from_connection(connection)
    except OperationalError as error:
        raise RestoreFailed(f"{driver_message(error)}: check the URL, and that the server runs") from error
