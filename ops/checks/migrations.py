"""The schema: at the revision of this code, as the models describe it; and what the next upgrade would lock."""

from collections.abc import Iterator, Sequence
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Row

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

SEVERAL = ", "  # between revisions, of which there is to be one
CURRENT = "flask ops doctor --only migrations.current"
MANY_ROWS = 100_000  # from here on, what stops writes for as long as it goes through a table is felt

AT = Statement(
    "ops.revision",
    """
SELECT version_num FROM alembic_version ORDER BY version_num""",
)
HAS_VERSION = Statement("ops.has_revision", "SELECT to_regclass('alembic_version') IS NOT NULL AS has")
# Wherever tables with those names are; the visible ones are those that are meant without a schema.
PLACES = Statement(
    "ops.table_places",
    """
SELECT c.relname AS name, quote_ident(n.nspname) AS sql_schema, pg_table_is_visible(c.oid) AS is_visible,
       current_setting('search_path') AS search_path, quote_ident(current_user) AS role,
       quote_ident(current_database()) AS database
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relname = ANY (%(names)s)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
 ORDER BY 2, 1""",
)
# What runs by itself when something is written. Parley has none of it but what its foreign keys are made of.
MEDDLERS = Statement(
    "ops.meddlers",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, found.kind, found.name, found.definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT 'trigger' AS kind, quote_ident(t.tgname) AS name, pg_get_triggerdef(t.oid) AS definition
         FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
       UNION ALL
       SELECT 'rule', quote_ident(r.rulename), pg_get_ruledef(r.oid)
         FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN') AS found
 WHERE c.relkind IN ('r', 'p') AND c.relname = ANY (%(names)s) AND pg_table_is_visible(c.oid)
 ORDER BY 1, 2, 3""",
)
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
    if at is None and (misplaced := _misplaced(probe, expected)) is not None:
        yield misplaced
        return
    if at is not None and SEVERAL in at:
        yield _several(at, expected)
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


def _misplaced(probe: Probe, expected: str) -> Finding | None:
    """Why an upgrade from the beginning would be wrong although nothing says where the database is; None if nothing."""
    found = PLACES.all(probe.connection, {"names": ["alembic_version", *Base.metadata.tables]})
    if seen := sorted(row.name for row in found if row.is_visible):
        return Finding(
            level=Level.CRITICAL,
            what="Parley's tables are there, and alembic_version, which says at which migration they are, is not, or is"
            " empty.",
            evidence={"tables": seen, "code": expected},
            remedy="Never upgrade from here: it would begin anew. If this code has run on them: flask db stamp"
            f" {expected}, then flask ops doctor --only migrations,indexes; else restore a backup",
        )
    if any(row.name == "alembic_version" for row in found):
        schemas = sorted({row.sql_schema for row in found})
        return Finding(
            level=Level.CRITICAL,
            what=f"Parley's tables are in the schema {', '.join(schemas)}, where this account does not look.",
            evidence={"search_path": found[0].search_path, "schemas": schemas},
            remedy="Let its search_path name that schema; if it is another installation's: flask db upgrade",
            sql=f"ALTER ROLE {found[0].role} IN DATABASE {found[0].database} SET search_path = {schemas[0]};",
        )
    return None


def _several(at: str, expected: str) -> Finding:
    known = set(at.split(SEVERAL)) <= set(known_revisions())
    others = f"DELETE FROM alembic_version WHERE version_num <> '{max(at.split(SEVERAL))}';"  # noqa: S608  # for a person
    return Finding(
        level=Level.CRITICAL,
        what=f"alembic_version holds several revisions, {at}, and there is one: no upgrade can begin.",
        evidence={"database": at, "code": expected},
        remedy="See in the deployments' log which one was reached last, and delete the others",
        sql=others if known else None,
    )


def next_upgrade(probe: Probe) -> Iterator[Finding]:
    """One finding for each revision that is still to be done, with the locks it takes on tables that are there."""
    at = revision_of(probe)
    if (at is None and _misplaced(probe, expected_revision()) is not None) or (at and SEVERAL in at):
        raise CannotJudge("At which migration the database is cannot be told.", remedy=CURRENT)
    if at is not None and at not in known_revisions():
        raise CannotJudge(
            f"The database is at migration {at}, which this code does not know.", remedy="Deploy the newer code"
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
            what=(
                "1 migration is still to be done and locks"
                if len(quiet) == 1
                else f"{len(quiet)} migrations are still to be done and lock"
            )
            + " no table that is there.",
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
            remedy=CURRENT,
        )
    places = PLACES.all(probe.connection, {"names": [*Base.metadata.tables]})
    if len(seen := sorted({row.sql_schema for row in places if row.is_visible})) > 1:
        yield _scattered(seen, places)
    with quietly():
        opts = {"compare_type": True, "compare_server_default": True}
        differences = compare_metadata(MigrationContext.configure(probe.connection, opts=opts), Base.metadata)
    for difference in differences:
        for each in difference if isinstance(difference, list) else [difference]:
            if (found := _difference(each)) is not None:
                yield found
    for row in MEDDLERS.all(probe.connection, {"names": [*Base.metadata.tables]}):
        yield Finding(
            level=Level.WARNING,
            what=f"{row.sql_table} has the {row.kind} {row.name}, which is in no model: it may change or drop what is"
            " written.",
            evidence={"definition": row.definition},
            remedy="See who made it and what for; if nobody misses it, drop it",
            sql=f"DROP {row.kind.upper()} {row.name} ON {row.sql_table};",
        )


def _scattered(schemas: list[str], places: Sequence[Row[Any]]) -> Finding:
    home: str = max(schemas, key=lambda schema: sum(row.is_visible and row.sql_schema == schema for row in places))
    strange = [row for row in places if row.is_visible and row.sql_schema != home]
    return Finding(
        level=Level.CRITICAL,
        what=f"Of Parley's tables, {', '.join(row.name for row in strange)} is taken from the schema"
        f" {strange[0].sql_schema}, and the others from {home}: the search_path finds them there first.",
        evidence={"search_path": strange[0].search_path, "found": [f"{row.sql_schema}.{row.name}" for row in strange]},
        remedy="See which one holds what was written, and since when; move its rows, then rename the other",
        sql="\n".join(f"ALTER TABLE {row.sql_schema}.{row.name} RENAME TO {row.name}_strange;" for row in strange),
    )


def revision_of(probe: Probe) -> str | None:
    """Where the database is, or says it is in several places; None where nothing says so."""
    has = HAS_VERSION.one(probe.connection, {})
    rows = AT.all(probe.connection, {}) if has is not None and has.has else []
    return SEVERAL.join(row.version_num for row in rows) or None


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
