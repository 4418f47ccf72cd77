"""Restoring for real: a backup into an empty database, compared with its manifest afterwards like in a drill."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from app.database import direct_connection, said
from app.services.container import services
from app.services.health import expected_revision
from ops.backup.comparing import differences
from ops.backup.contents import TABLES, read_contents
from ops.backup.create import checked
from ops.backup.errors import Damaged, RestoreFailed
from ops.backup.inventory import Backup, Inventory
from ops.backup.programs import find_programs
from ops.backup.reports import told
from ops.backup.running import restore as run_restore
from ops.backup.scratch import reached
from ops.backup.stores.opening import open_store
from ops.backup.target import Target
from ops.backup.verify import look_into


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What is in the database now; `ok` if it is what the manifest says. `next_step` is what is left to do."""

    name: str
    into: str
    ok: bool
    problems: tuple[str, ...]
    tables: int
    rows: int
    alembic: tuple[str, ...]
    seconds: float
    next_step: str


def restore(*, name: str, to: str | None = None, into: str | None = None) -> Restored:
    """Restore that backup into the empty database at the URL `to`, or into a new one called `into` on the present
    server: all of it or nothing.

    Raises `RestoreFailed` for a database that holds tables or exists already, and `Damaged` for a backup that is not
    whole; then nothing was changed.
    """
    inventory = Inventory.of(open_store(services().settings))
    backup = inventory.find(name)
    if to is not None:
        target = reached(to)
        _refuse_filled(target)
        return _restored(inventory, backup, target)
    with _new_database(into or "", inventory.manifest(backup).origin.encoding) as target:
        return _restored(inventory, backup, target)


@contextmanager
def _new_database(name: str, encoding: str) -> Iterator[Target]:
    """A new database on the server of this one; gone again if the block raises."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or not re.fullmatch(r"\w{1,20}", encoding):
        raise RestoreFailed(f"{name!r} is no name for a new database: small letters, digits and _, at most 63 of them.")
    with direct_connection() as connection:
        here = Target.of(connection)
    with here.connected() as admin:
        try:
            admin.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
        except DBAPIError as error:
            raise RestoreFailed(
                f"The database {name} could not be made: {said(error)}. Nothing was changed."
            ) from error
        try:
            yield here.on(name)
        except BaseException:
            with suppress(DBAPIError):
                admin.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")  # which was made just now
            raise


def _restored(inventory: Inventory, backup: Backup, target: Target) -> Restored:
    settings, started, name = services().settings, time.monotonic(), backup.name
    manifest = inventory.manifest(backup)
    if target.version < manifest.origin.major:
        raise RestoreFailed(
            f"{name} is of PostgreSQL {manifest.origin.major}, and {_where(target)} is {target.version}: a server must "
            "not be older than what is restored into it"
        )
    if problems := look_into(inventory, backup):
        raise Damaged(problems[0])
    assert backup.dump is not None  # noqa: S101  # its checksum fits
    programs = find_programs(target, chosen=settings.backups.programs, written_by=manifest.dump.major)
    run_restore(programs, target, checked(inventory.store, backup.dump.name, manifest.dump, title="Restoring"))
    with target.connected() as connection:
        found = list(differences(manifest.contents, read_contents(connection)))
    return Restored(
        name=backup.name.text,
        into=_where(target),
        ok=not found,
        problems=told(found),
        tables=len(manifest.contents.tables),
        rows=manifest.rows,
        alembic=manifest.contents.alembic,
        seconds=round(time.monotonic() - started, 3),
        next_step=_next_step(manifest.contents.alembic),
    )


def _next_step(alembic: tuple[str, ...]) -> str:
    """Revisions are numbered, so that an older one sorts before a newer."""
    head = expected_revision()
    if alembic == (head,):
        return "set DATABASE_URL to it and start Parley"
    if max(alembic, default="") > head:
        return "start it with the version of Parley that it is of, which is newer than this one"
    return "run `flask db upgrade` with DATABASE_URL set to it: it is of an older version of Parley"


def _refuse_filled(target: Target) -> None:
    with target.connected() as connection:
        tables = [row.name for row in TABLES.all(connection, {})]
    if tables:
        raise RestoreFailed(
            f"{_where(target)} is not empty: it holds {len(tables)} tables, such as {tables[0]}. Make a new database "
            "(CREATE DATABASE ... TEMPLATE template0) and restore into that. Nothing was changed."
        )


def _where(target: Target) -> str:
    return f"{target.parameters['host']}:{target.parameters['port']}/{target.database}"
