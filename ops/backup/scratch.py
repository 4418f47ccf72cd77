"""Databases that a drill makes for itself, and nothing else is ever dropped.

Such a name holds a random part and a hash of it with the source: only a drill of the same source makes it. So what a
killed drill left is known for ours by its name, even where the kill came before its comment.
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

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError

from app.database import said
from app.repositories.statement import Statement
from ops import embedded
from ops.backup.errors import RestoreFailed
from ops.backup.target import Target
from ops.embedded.site import open_site

MARK = "Scratch database of a Parley restore drill"
EMBEDDED = "embedded"
_log = logging.getLogger("parley.ops")
_NAME = re.compile(r"parley_drill_([0-9a-f]{8})_([0-9a-f]{8})")

LOCAL = ("127.0.0.1", "::1", "localhost")
ROOM = 1.5  # times the size of the database: what restoring writes besides is in it

SIZE = Statement("drill.size", "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes")

# Only for whom it is no secret.
PLACE = Statement(
    "drill.place",
    """
SELECT setting AS folder FROM pg_catalog.pg_settings WHERE name = 'data_directory'""",
)

LEFT = Statement(
    "drill.leftovers",
    """
SELECT datname AS name, pg_catalog.shobj_description(oid, 'pg_database') AS comment
  FROM pg_catalog.pg_database WHERE datname LIKE 'parley\\_drill\\_%%'""",
)


def scratch_name(source: str) -> str:
    """A new name for a database of a drill of `source`."""
    random = secrets.token_hex(4)
    return f"parley_drill_{random}_{_proof(random, source)}"


def is_ours(name: str, comment: str | None, source: str) -> bool:
    """Whether a drill of `source` made the database, so that it may be dropped."""
    found = _NAME.fullmatch(name)
    if found is None or found[2] != _proof(found[1], source):
        return False
    return comment is None or comment.startswith(MARK)


@contextmanager
def server_for_drills(setting: str | None, own: Target, home: Path) -> Iterator[Target]:
    """The server where a scratch database is made: by DRILL_DATABASE_URL, else the database's own.

    Raises `RestoreFailed` where it cannot be reached, `EmbeddedError` where an embedded one cannot be started.
    """
    with ExitStack() as stack:
        if setting is None:
            yield own
            return
        if setting == EMBEDDED:
            folder = open_site(home).folder("drill")
            folder.chmod(0o711)  # the server may run as another user
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            setting = stack.enter_context(embedded.lease_postgres(folder, durable=False)).url
        yield reached(setting)


def refuse_crowded(server: Target, needed: int) -> None:
    """Raises `RestoreFailed` where a database of `needed` bytes would fill the disk, and stop the live one too.

    That is known only of a server on this machine that tells us its folder.
    """
    with server.connected() as admin:
        row = PLACE.one(admin, {})
    folder = Path(row.folder) if row is not None and row.folder else None
    if folder is None or server.parameters["host"] not in LOCAL or not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    if free < needed * ROOM:
        raise RestoreFailed(
            f"The disk of {_where(server)} has {free:,} bytes free, too few for a scratch database beside one of "
            f"{needed:,}: make room, or set DRILL_DATABASE_URL to another server"
        )


@dataclass
class Scratch:
    """A database for a while. `left` is true once it turned out that it could not be dropped."""

    target: Target
    left: bool = False


@contextmanager
def scratch_database(server: Target, source: str, encoding: str) -> Iterator[Scratch]:
    """An empty database of a guarded name, dropped at the end, whatever happens.

    Raises `RestoreFailed` where this account may not make one.
    """
    name = scratch_name(source)
    with server.connected() as admin:
        try:
            _create(admin, name, encoding)
        except DBAPIError as error:
            with suppress(DBAPIError):
                _drop(admin, name)
            raise RestoreFailed(
                f"No scratch database could be made on {_where(server)} ({said(error)}): let this account create "
                "databases (ALTER ROLE ... CREATEDB), or set DRILL_DATABASE_URL to a server where it may, or to "
                "`embedded`"
            ) from error
    scratch = Scratch(server.on(name))
    try:
        yield scratch
    finally:
        try:
            with server.connected() as admin:  # another connection: the first would have been idle for the whole drill
                _drop(admin, name)
        except DBAPIError as error:
            scratch.left = True
            _log.warning("the scratch database %s was not dropped, the next drill does it: %s", name, said(error))


def drop_leftovers(server: Target, source: str) -> list[str]:
    """Drop what killed drills of `source` left. The caller knows that no drill of it is under way."""
    with server.connected() as admin:
        left = [row.name for row in LEFT.all(admin, {}) if is_ours(row.name, row.comment, source)]
        for name in left:
            _drop(admin, name)
    return left


def _create(admin: Connection, name: str, encoding: str) -> None:
    if not (_NAME.fullmatch(name) and re.fullmatch(r"\w{1,20}", encoding)):
        raise RestoreFailed(f"{name!r} in {encoding!r} is no scratch database.")
    admin.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
    admin.exec_driver_sql(f"COMMENT ON DATABASE {name} IS '{MARK}, begun at {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z'")
    admin.exec_driver_sql(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC")


def _drop(admin: Connection, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RestoreFailed(f"{name!r} is no scratch database; it was not dropped.")
    admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _proof(random: str, source: str) -> str:
    return hashlib.sha256(f"{MARK} {random} {source}".encode()).hexdigest()[:8]


def _where(server: Target) -> str:
    return f"{server.parameters['host']}:{server.parameters['port']}"


def reached(url: str) -> Target:
    """The database at `url`. Raises `RestoreFailed` where it cannot be reached."""
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            return Target.of(connection)
    except OperationalError as error:
        raise RestoreFailed(f"{said(error)}: is the URL right, and the server up?") from error
