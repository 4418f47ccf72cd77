"""Replacement of the current database by a restored one, by renaming; the old one is kept."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.database import current_engines, direct_connection, driver_message
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.backup.contents import TABLE_NAMES, read_alembic
from ops.backup.errors import RestoreFailed
from ops.backup.marks import BEGUN, COMPLETE, REPLACED, RETURNED, Mark, mark_statement, read_mark, unfinished_restores
from ops.backup.target import Target

MAINTENANCE_DATABASE = "postgres"  # a database cannot be renamed over its own connection
# Tables that Parley has had since its first migrations.
REQUIRED_TABLES = ("alembic_version", "users", "messages")

EXISTS = Statement("backup.database_exists", "SELECT 1 AS found FROM pg_catalog.pg_database WHERE datname = %(name)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """The renamed databases: `restored` is now called `database`, and the old one `kept`."""

    database: str
    restored: str
    kept: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardReport:
    """The dropped database, which an unfinished restore of `backup` had left."""

    database: str
    backup: str


def switch(*, restored: str) -> SwitchReport:
    """Rename the current database to `NAME_before_TIME` and `restored` to its name, in one transaction.

    `restored` must be completely restored, or be the kept database of an earlier switch. Raises `RestoreFailed` if it
    is not, such as after a restore that was cut off, and for an open connection to either database; then nothing was
    changed.
    """
    with direct_connection() as connection:
        current = Target.from_connection(connection)
    for engine in current_engines().values():
        engine.dispose()  # this process's own connections block the renaming too
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name) for name in (restored, current.database)):
        raise RestoreFailed("A database name has characters other than letters, digits, _ and -: use ALTER DATABASE.")
    if restored == current.database:
        raise RestoreFailed(f"{restored} is the current database already. Nothing was changed.")
    try:
        with current.on(MAINTENANCE_DATABASE).connected() as admin:
            mark = _checked_mark(admin, restored)
            revision = _check_contents(current.on(restored))
            kept = _free_name(admin, f"{current.database[:38]}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}")
            # The time of the switch is noted in both, because later backups are of the other history.
            state = COMPLETE if mark.backup else RETURNED
            marking = (
                mark_statement(admin, current.database, REPLACED),
                mark_statement(admin, restored, state, mark.backup),
            )
            admin.exec_driver_sql(
                f'BEGIN; {"; ".join(marking)}; ALTER DATABASE "{current.database}" RENAME TO "{kept}";'
                f'ALTER DATABASE "{restored}" RENAME TO "{current.database}"; COMMIT'
            )
    except DBAPIError as error:
        raise RestoreFailed(
            f"{driver_message(error)} Nothing was changed: stop Parley and all other clients first."
        ) from error
    step = "start Parley" if revision == expected_revision() else "run `flask db upgrade`, then start Parley"
    return SwitchReport(database=current.database, restored=restored, kept=kept, next_step=step)


def discard(*, database: str) -> DiscardReport:
    """Drop a database that an unfinished restore left. Raises `RestoreFailed` for every other one."""
    with direct_connection() as connection:
        for unfinished in unfinished_restores(connection):
            if unfinished.database == database:
                break
        else:
            raise RestoreFailed(
                f"No unfinished restore left a database called {database}, or its restore is running: it was not "
                "dropped. `flask ops backup status` lists those that can be."
            )
        quoted = database.replace('"', '""')
        try:
            connection.exec_driver_sql(f'DROP DATABASE "{quoted}"'.replace("%", "%%"))
        except DBAPIError as error:
            raise RestoreFailed(f"{driver_message(error)} Nothing was changed.") from error
    return DiscardReport(database=database, backup=unfinished.backup)


def _free_name(admin: Connection, name: str) -> str:
    """Return the name, with a number behind it if a database has it already."""
    candidates = (name, *(f"{name}_{number}" for number in range(2, 10)))
    return next((each for each in candidates if EXISTS.one(admin, {"name": each}) is None), name)


def _checked_mark(admin: Connection, restored: str) -> Mark:
    """Return the database's mark. Raises `RestoreFailed` unless its restore is complete, or a switch replaced it."""
    if EXISTS.one(admin, {"name": restored}) is None:
        raise RestoreFailed(f"There is no database called {restored} on this server. Nothing was changed.")
    mark = read_mark(admin, restored)
    if mark is None:
        raise RestoreFailed(
            f"{restored} was not restored by `flask ops backup restore`, so nothing says that it is complete. Nothing "
            "was changed. To use it all the same, set DATABASE_URL to it."
        )
    if mark.state == BEGUN:
        raise RestoreFailed(
            f"The restore of {mark.backup} into {restored}, begun at {mark.at:%Y-%m-%d %H:%M} UTC, is not complete: it "
            f"runs, was cut off, or found differences. Nothing was changed. If it does not run, remove it with "
            f"`flask ops backup discard {restored}` and restore again."
        )
    return mark


def _check_contents(restored: Target) -> str:
    """Return the revision of the database. Raises `RestoreFailed` if it is not one of Parley's."""
    with restored.connected() as connection:
        tables = {row.unqualified_name: row.name for row in TABLE_NAMES.all(connection, {})}
        missing = [name for name in REQUIRED_TABLES if name not in tables]
        revisions = [] if missing else read_alembic(connection, tables["alembic_version"])
    if missing:
        raise RestoreFailed(
            f"{restored.database} is not a database of Parley: it has no table {missing[0]}. Nothing was changed."
        )
    if len(revisions) != 1:
        raise RestoreFailed(f"{restored.database} has {len(revisions)} revisions instead of one. Nothing was changed.")
    if revisions[0] > expected_revision():
        raise RestoreFailed(
            f"{restored.database} is at revision {revisions[0]}, this version of Parley at {expected_revision()}: "
            "install the newer version, and switch with it. Nothing was changed."
        )
    return str(revisions[0])
