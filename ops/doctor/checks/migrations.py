"""The schema's revision, and the locks of the next upgrade."""

from collections.abc import Iterator
from typing import Any

import app.models  # noqa: F401  # so that the metadata is complete
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.lost_revision import find_lost_revision, find_unused_data
from ops.doctor.revision import CURRENT, SEPARATOR, revision_of
from ops.errors import UnknownState
from ops.formatting import format_size
from ops.levels import Level
from ops.upgrades.pending import Revision, known_revisions, pending_revisions
from ops.upgrades.statement_locks import LockDuration, TableLock

MANY_ROWS = 100_000  # a table from which on a lock for the time of a scan is critical

# The names may be tables, or `index:NAME`, which refers to the index's table. -1 rows: not analyzed yet.
SIZES = Statement(
    "ops.migrated_sizes",
    """
SELECT named.name, c.reltuples::int8 AS rows, pg_total_relation_size(c.oid) AS bytes, c.relname AS table
  FROM unnest(%(names)s::text[]) AS named(name)
  JOIN pg_class c ON c.oid = CASE WHEN named.name LIKE 'index:%%'
       THEN (SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass(quote_ident(substring(named.name FROM 7))))
       ELSE to_regclass(quote_ident(named.name)) END""",
)


@check("migrations.current", "Is the database at the revision of this code?", severity=Level.CRITICAL)
def current(context: CheckContext) -> Iterator[Finding]:
    """Compare the database's revision with that of this code."""
    revision, expected = revision_of(context), expected_revision()
    if revision == expected:
        if (problem := find_unused_data(context.connection)) is not None:
            yield problem
        return
    if revision is None and (problem := find_lost_revision(context.connection, expected)) is not None:
        yield problem
        return
    if revision is not None and SEPARATOR in revision:
        yield _several_revisions(revision, expected)
        return
    is_newer = revision is not None and revision not in known_revisions()
    yield Finding(
        level=Level.WARNING if is_newer else Level.CRITICAL,
        message=f"The database is {'empty' if revision is None else f'at revision {revision}'}, this code at {expected}"
        + (": the code is older." if is_newer else "."),
        object="revision",
        evidence={"database": revision, "code": expected},
        remedy="Deploy the newer code here as well"
        if is_newer
        else "flask db upgrade. Which locks does it take? flask ops doctor --only migrations.next",
    )


def _several_revisions(revisions: str, expected: str) -> Finding:
    parts = revisions.split(SEPARATOR)
    all_known = set(parts) <= set(known_revisions())
    sql = f"DELETE FROM alembic_version WHERE version_num <> '{max(parts)}';"  # noqa: S608  # for an operator
    return Finding(
        level=Level.CRITICAL,
        message=f"alembic_version has several revisions, {revisions}, instead of one: no upgrade can start.",
        object="alembic_version",
        evidence={"database": revisions, "code": expected},
        remedy="Which was the last one, by the deployments' log? Delete the others",
        sql=sql if all_known else None,
    )


@check("migrations.next", "Which locks would the next upgrade take?", severity=Level.CRITICAL)
def next_upgrade(context: CheckContext) -> Iterator[Finding]:
    """Report pending migrations, with the locks that each takes on existing tables."""
    revision = revision_of(context)
    if revision is None and find_lost_revision(context.connection, expected_revision()) is not None:
        raise UnknownState("The database's revision is unknown.", remedy=CURRENT)
    if revision is not None and SEPARATOR in revision:
        raise UnknownState("The database's revision is ambiguous.", remedy=CURRENT)
    if revision is not None and revision not in known_revisions():
        raise UnknownState(
            f"The database is at revision {revision}, which this code does not know.", remedy="Deploy the newer code"
        )
    migrations = pending_revisions(revision)
    names = sorted({lock.table for migration in migrations for lock in migration.locks})
    tables = {row.name: row for row in SIZES.all(context.connection, {"names": names})} if names else {}
    without_locks = []
    for migration in migrations:
        locks = [(lock, tables[lock.table]) for lock in migration.locks if lock.table in tables]
        if locks or migration.unknown:
            yield _pending_finding(migration, locks)
        else:
            without_locks.append(migration)
    if without_locks:
        count = len(without_locks)
        yield Finding(
            object="without locks",
            level=Level.WARNING,
            message=("1 migration is pending and locks" if count == 1 else f"{count} migrations are pending and lock")
            + " no existing table.",
            evidence={migration.id: migration.description for migration in without_locks},
            remedy="flask db upgrade",
        )


def _pending_finding(migration: Revision, locks: list[tuple[TableLock, Any]]) -> Finding:
    long_locks = [
        lock
        for lock, table in locks
        if lock.blocks_writes and lock.duration is not LockDuration.MOMENT and table.rows >= MANY_ROWS
    ]
    if long_locks:
        effect = f"blocks writes to {', '.join(dict.fromkeys(lock.table for lock in long_locks))} for long"
    elif locks:
        effect = f"locks {', '.join(dict.fromkeys(table.table for _, table in locks))} for a moment"
    else:
        effect = "locks no existing table"
    unknown = f"; unknown: {', '.join(migration.unknown)}" if migration.unknown else ""
    return Finding(
        object=migration.id,
        level=Level.CRITICAL if long_locks else Level.WARNING,
        message=f"Migration {migration.id} is pending and {effect}{unknown}. ({migration.description})",
        evidence={
            table.table: f"{lock.mode}, {lock.duration}, {_rows(table.rows)}, {format_size(table.bytes)}"
            for lock, table in locks
        },
        remedy="Upgrade at a quiet time: flask db upgrade. It stops after 5 s if it does not get a lock"
        if long_locks
        else "flask db upgrade",
    )


def _rows(rows: int) -> str:
    return "number of rows unknown" if rows < 0 else f"{rows:,} rows"
