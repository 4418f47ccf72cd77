"""The schema: at the revision of this code, as the models describe it; and what the next upgrade would lock."""

from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import app.models  # noqa: F401  # so that the metadata is complete
from app.extensions import Base
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level
from ops.upgrades.locks import Lock, Work
from ops.upgrades.pending import Revision, known_revisions, pending, quietly
from ops.words import size

MANY_ROWS = 100_000  # from here on, what stops writes for as long as it goes through a table is felt

AT = Statement(
    "ops.revision",
    """
SELECT version_num FROM alembic_version ORDER BY version_num""",
)
HAS_VERSION = Statement("ops.has_revision", "SELECT to_regclass('alembic_version') IS NOT NULL AS has")
# An index stands for its table. -1 rows: nobody has counted them yet.
SIZES = Statement(
    "ops.migrated_sizes",
    """
SELECT named.name, c.reltuples::int8 AS rows, pg_total_relation_size(c.oid) AS bytes, c.relname AS table
  FROM unnest(%(names)s::text[]) AS named(name)
  JOIN pg_class c ON c.oid = CASE WHEN named.name LIKE 'index:%%'
       THEN (SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass(quote_ident(substring(named.name FROM 7))))
       ELSE to_regclass(quote_ident(named.name)) END""",
)


def current(probe: Probe) -> Iterator[Finding]:
    """A finding if the database is not at the revision that this code was written for."""
    at, expected = revision_of(probe), expected_revision()
    if at == expected:
        return
    newer = at is not None and at not in known_revisions()
    yield Finding(
        level=Level.WARNING if newer else Level.CRITICAL,
        what=f"The database is {'empty' if at is None else f'at migration {at}'}, this code at {expected}"
        + (": the code is older." if newer else "."),
        evidence={"database": at, "code": expected},
        remedy="Deploy the newer code here as well"
        if newer
        else "flask ops doctor --only migrations.next says what it would lock; then flask db upgrade",
    )


def next_upgrade(probe: Probe) -> Iterator[Finding]:
    """One finding for each revision that is still to be done, with the locks it takes on tables that are there."""
    at = revision_of(probe)
    if at is not None and at not in known_revisions():
        raise CannotJudge(
            f"The database is at migration {at}, which this code does not know.", remedy="Deploy the newer"
        )
    steps = pending(at)
    names = sorted({lock.table for step in steps for lock in step.locks})
    tables = {row.name: row for row in SIZES.all(probe.connection, {"names": names})} if names else {}
    quiet = []
    for step in steps:
        locks = [(lock, tables[lock.table]) for lock in step.locks if lock.table in tables]
        if locks or step.unknown:
            yield _told(step, locks)
        else:
            quiet.append(step)
    if quiet:
        yield Finding(
            level=Level.WARNING,
            what=f"{len(quiet)} migrations are still to be done and lock no table that is there.",
            evidence={step.id: step.does for step in quiet},
            remedy="flask db upgrade",
        )


def drift(probe: Probe) -> Iterator[Finding]:
    """A finding for each table or column that is not as the models describe it. Indexes are judged by `indexes`.

    What is there beyond the models is somebody else's, unless it is a column of a table of theirs.
    """
    at = revision_of(probe)
    if at != expected_revision():
        raise CannotJudge(
            "The database is not at the revision of this code, so its tables cannot be as the models describe them.",
            remedy="flask db upgrade",
        )
    with quietly():
        opts = {"compare_type": True, "compare_server_default": True}
        differences = compare_metadata(MigrationContext.configure(probe.connection, opts=opts), Base.metadata)
    for difference in differences:
        for each in difference if isinstance(difference, list) else [difference]:
            if (found := _difference(each)) is not None:
                yield found


def revision_of(probe: Probe) -> str | None:
    """Where the database is; None for one that was never migrated."""
    has = HAS_VERSION.one(probe.connection, {})
    rows = AT.all(probe.connection, {}) if has is not None and has.has else []
    return ", ".join(row.version_num for row in rows) or None


def _told(step: Revision, locks: list[tuple[Lock, Any]]) -> Finding:
    felt = [
        lock for lock, table in locks if lock.stops_writes and lock.work is not Work.MOMENT and table.rows >= MANY_ROWS
    ]
    if felt:
        what = f"stops writes to {', '.join(dict.fromkeys(lock.table for lock in felt))} for long"
    elif locks:
        what = f"locks {', '.join(dict.fromkeys(table.table for _, table in locks))} for a moment"
    else:
        what = "locks no table that is there"
    unknown = f"; not known: {', '.join(step.unknown)}" if step.unknown else ""
    return Finding(
        level=Level.CRITICAL if felt else Level.WARNING,
        what=f"Migration {step.id} is still to be done and {what}{unknown}. ({step.does})",
        evidence={
            table.table: f"{lock.mode}, {lock.work}, {_rows(table.rows)}, {size(table.bytes)}" for lock, table in locks
        },
        remedy="Upgrade when few people write: flask db upgrade. It gives up after 5 s where it gets no lock"
        if felt
        else "flask db upgrade",
    )


def _rows(rows: int) -> str:
    return "rows not counted yet" if rows < 0 else f"{rows:,} rows"


def _difference(difference: Any) -> Finding | None:
    """One of Alembic's differences, which are tuples that begin with what would have to be done."""
    kind = difference[0]
    if kind == "add_table":
        return _drifted(Level.CRITICAL, f"The table {difference[1].name} is missing.")
    if kind == "add_column":
        return _drifted(Level.CRITICAL, f"The column {difference[2]}.{difference[3].name} is missing.")
    if kind == "remove_column":
        return _drifted(Level.WARNING, f"The column {difference[2]}.{difference[3].name} is in no model.")
    if kind.startswith("modify_"):
        _, _, table, column, _, there, wanted = difference
        what = {"modify_nullable": "nullability", "modify_type": "type", "modify_default": "default"}.get(kind, kind)
        told = {"database": str(getattr(there, "arg", there)), "model": str(getattr(wanted, "arg", wanted))}
        return _drifted(Level.WARNING, f"The {what} of {table}.{column} is not the model's.", told)
    if kind in ("add_fk", "add_constraint"):
        return _drifted(Level.WARNING, f"The constraint {difference[1].name} of {difference[1].table.name} is missing.")
    return None


def _drifted(level: Level, what: str, evidence: dict[str, Any] | None = None) -> Finding:
    return Finding(
        level=level,
        what=what,
        evidence=evidence or {},
        remedy="Somebody changed the schema by hand: see who, and undo it, or write a migration",
    )
