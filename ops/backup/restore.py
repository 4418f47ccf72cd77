"""Restore of a backup into an empty database, followed by a comparison with its manifest."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from app.container import current_settings
from app.database import direct_connection, driver_message
from app.errors import InvalidInput, OwnSessionRequired
from app.services.health import expected_revision
from ops.backup.comparison import find_differences, without_skipped
from ops.backup.contents import OUTPUT_SETTINGS, TABLE_NAMES, read_contents, read_origin
from ops.backup.create import read_dump
from ops.backup.errors import BackupDamaged, RestoreFailed
from ops.backup.inventory import Backup, Inventory
from ops.backup.manifest import Manifest
from ops.backup.marks import BEGUN, COMPLETE, set_mark
from ops.backup.plain_dumps import copy_plain, identities_of
from ops.backup.programs import find_programs
from ops.backup.restoring import restore_dump
from ops.backup.scratch import connect_target
from ops.backup.store import open_backup_store
from ops.backup.stored_reports import limit_problems
from ops.backup.target import Target
from ops.backup.verify import check_dump


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """The result of a restore into the database `into`. `ok`: its contents match the manifest.

    `skipped` names the objects that the role could not create there. `next_step` says what to do now.
    """

    name: str
    into: str
    ok: bool
    problems: tuple[str, ...]
    tables: int
    rows: int
    alembic: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    seconds: float
    next_step: str


def restore(*, name: str, to: str | None = None, into: str | None = None) -> RestoreReport:
    """Restore a backup into the empty database at the URL `to`, or into a new database `into` on this server.

    Runs in one transaction. The database is marked as begun, and as complete once its contents match the manifest.
    Raises `NoSuchBackup`, `BackupDamaged`, `ProgramsMissing`, and `RestoreFailed`, such as for a database that is not
    empty or exists; then nothing was changed.
    """
    started = time.monotonic()
    inventory = Inventory.load(open_backup_store(current_settings()))
    backup = inventory.find(name)
    if to is not None:
        target = connect_target(to)
        _refuse_tables(target)
        _check_backup(inventory, backup, target)
        return _restore_into(inventory, backup, target, started)
    _check_name(into or "")
    server = _current_server()
    _check_backup(inventory, backup, server)
    with _new_database(server, into or "", inventory.manifest(backup).origin.encoding) as target:
        return _restore_into(inventory, backup, target, started)


def parse_database_url(text: str) -> URL:
    """Parse a PostgreSQL URL for psycopg2. Raises `InvalidInput`, without repeating the URL and its password."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        try:
            url = make_url(f"postgresql+psycopg2://{rest}")
        except (ArgumentError, ValueError):
            url = None
        if url is not None and url.database:
            return url
    raise InvalidInput("The URL must look like postgresql://user@host:port/database.")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise RestoreFailed(
            f"{name!r} cannot be the name of a new database: use lower-case letters, digits and _, at most 63."
        )


def _current_server() -> Target:
    with direct_connection() as connection:
        return Target.from_connection(connection)


@contextmanager
def _new_database(server: Target, name: str, encoding: str) -> Iterator[Target]:
    """Create a database on the server; drop it if the block raises."""
    if not re.fullmatch(r"\w{1,20}", encoding):
        raise RestoreFailed(f"{encoding!r} is not the name of an encoding.")
    with server.connected() as admin:
        try:
            admin.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
        except DBAPIError as error:
            raise RestoreFailed(
                f"The database {name} could not be created: {driver_message(error)}. Nothing was changed."
            ) from error
    try:
        yield server.on(name)
    except BaseException:
        with suppress(DBAPIError), server.connected() as admin:
            admin.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        raise


def _check_backup(inventory: Inventory, backup: Backup, server: Target) -> None:
    """Read the whole backup before anything is created. Raises `RestoreFailed` and `BackupDamaged`."""
    manifest = inventory.manifest(backup)
    if server.version < manifest.origin.major:
        raise RestoreFailed(
            f"{backup.name} is of PostgreSQL {manifest.origin.major}, but {_address(server)} is {server.version}: "
            "restore into a server that is not older"
        )
    if problems := check_dump(inventory, backup):
        raise BackupDamaged(problems[0])
    identities_of(inventory, backup, current_settings())


def _restore_into(inventory: Inventory, backup: Backup, target: Target, started: float) -> RestoreReport:
    manifest = inventory.manifest(backup)
    assert backup.dump is not None  # noqa: S101  # check_dump found it
    dump = backup.dump.name
    programs = find_programs(target, chosen=current_settings().backups.programs, written_by=manifest.dump.major)

    identities = identities_of(inventory, backup, current_settings())

    def copy(write: Callable[[bytes], Any]) -> None:
        copy_plain(read_dump(inventory.store, dump, manifest.dump, title="Restoring"), write, identities)

    with target.connected():  # as long as it lasts, the restore counts as running
        set_mark(target, BEGUN, backup.name.text)
        skipped = restore_dump(programs, target, copy)
        with target.connected(OUTPUT_SETTINGS) as connection:
            problems = list(find_differences(without_skipped(manifest.contents, skipped), read_contents(connection)))
        if not problems:
            with target.connected() as connection:
                connection.exec_driver_sql("ANALYZE")  # a dump has no statistics of the planner
            set_mark(target, COMPLETE, backup.name.text)
    return RestoreReport(
        name=backup.name.text,
        into=_address(target),
        ok=not problems,
        problems=limit_problems(problems),
        tables=len(manifest.contents.tables),
        rows=manifest.rows,
        alembic=manifest.contents.alembic,
        skipped=tuple(map(str, skipped)),
        seconds=round(time.monotonic() - started, 3),
        next_step=_next_step(target, manifest) if not problems else _after_problems(target),
    )


def _after_problems(target: Target) -> str:
    return f"do not use {target.database}; drop it, and restore another backup"


def _next_step(target: Target, manifest: Manifest) -> str:
    """Compare the migration revisions, which are numbered, so that an older one sorts before a newer one."""
    head, alembic = expected_revision(), manifest.contents.alembic
    if max(alembic, default="") > head:
        return "install the newer version of Parley that the backup was taken with, then follow docs/restore.md"
    if _is_on_current_server(target):
        use = f"stop Parley, then run `flask ops backup switch {target.database}`"
    else:
        use = "stop Parley, and set DATABASE_URL and DATABASE_DIRECT_URL to the restored database"
    if manifest.files is not None:
        use += f", then run `flask ops backup restore-files {manifest.name}`"
    if alembic == (head,):
        return f"{use}, and start Parley"
    return f"{use}, then run `flask db upgrade`, because the backup is of an older version of Parley"


def _is_on_current_server(target: Target) -> bool:
    """Return whether Parley's own database is on the server of `target`; False if it cannot be reached."""
    try:
        with direct_connection() as connection, target.connected() as restored:
            own, there = read_origin(connection), read_origin(restored)
            current = Target.from_connection(connection)
    except (SQLAlchemyError, OwnSessionRequired):
        return False
    if own.system_identifier and there.system_identifier:
        return own.system_identifier == there.system_identifier
    return _server(current) == _server(target)


def _server(target: Target) -> tuple[str, str]:
    return target.parameters["host"], target.parameters["port"]


def _refuse_tables(target: Target) -> None:
    with target.connected() as connection:
        tables = [row.name for row in TABLE_NAMES.all(connection, {})]
    if tables:
        raise RestoreFailed(
            f"{_address(target)} is not empty: it holds {len(tables)} tables, such as {tables[0]}. Create a new "
            "database (CREATE DATABASE ... TEMPLATE template0) and restore into it. Nothing was changed."
        )


def _address(target: Target) -> str:
    return f"{target.parameters['host']}:{target.parameters['port']}/{target.database}"
