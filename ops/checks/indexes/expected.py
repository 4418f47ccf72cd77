"""The indexes that Parley's models declare, against those that are there: missing, renamed, different, not valid."""

from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.indexes.cases import PLAN, Case, build, case, findings, rebuild
from ops.checks.indexes.declared import Declared, declared
from ops.checks.indexes.reading import Index, Reading, new_name, read
from ops.checks.indexes.steps import CONCURRENT_READS, Lock, Step
from ops.checks.indexes.work import broken
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

CHECK = "indexes.expected"
UPGRADE = "flask db upgrade"
CURRENT = "flask ops doctor --only migrations.current"
DRAFT = "_parley"  # ends the name of an index while the one that it replaces still has its own
MOST_OF_A_NAME = 50  # characters; PostgreSQL cuts names to 63
BY_HAND = "It belongs to a constraint, so no plan touches it: mend it by hand, with a backup at hand."

_HEAD = Path(__file__).parents[3] / "migrations" / ".current-head"

TABLES = Statement(
    "ops.index_tables",
    """
SELECT c.relname AS name, n.nspname AS schema, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
       quote_ident(n.nspname) AS sql_schema, pg_has_role(c.relowner, 'USAGE') AS is_owned,
       c.relpages::bigint * current_setting('block_size')::bigint AS bytes, d.dattablespace AS tablespace
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_database d ON d.datname = current_database()
 WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')""",
)
REVISION = Statement(
    "ops.revision",
    "SELECT string_agg(version_num, ', ' ORDER BY version_num) AS revision FROM alembic_version",
)


def expected(probe: Probe) -> Iterator[Finding]:
    """Every index that the models declare and that is missing, not valid, or another than they say.

    Raises `CannotJudge` where a table is missing, or the database is at another revision: the migrations come first.
    """
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading) -> Iterator[Case]:
    tables = {row.name: row for row in TABLES.all(probe.connection, {})}
    _migrated(probe, tables)
    ours = {index.name: index for index in reading.indexes if index.is_ours}
    names = {(index.schema, index.name): index for index in reading.indexes}
    down = {index.oid for index in broken(probe, reading)}
    for each in declared().values():
        table, found = tables[each.table], ours.get(each.name)
        if table.sql_name in reading.locked:
            continue
        twin = _twin(each, ours)
        if found is None or found.table != each.table:
            if other := names.get((table.schema, each.name)):
                yield _name_taken(each, other)
                continue
            yield _renamed(each, twin) if twin else _missing(each, table)
        elif not each.is_like(found) or bool(found.constraint) is not bool(each.constraint):
            yield _other(each, found, twin, table)
        elif found.oid in down:
            what = f"{found.sql_name}, which Parley's queries count on, is not valid: PostgreSQL does not use it."
            evidence = {"index": found.sql_name, "table": found.sql_table, "bytes": found.bytes}
            yield case(Level.CRITICAL, what, evidence, step=rebuild(CHECK, found), remedy=PLAN)


def _migrated(probe: Probe, tables: dict[str, Row[Any]]) -> None:
    """Raises `CannotJudge` where the models are not yet, or no longer, those of the database."""
    if missing := sorted(set(Base.metadata.tables) - set(tables)):
        raise CannotJudge(f"Tables are missing: {', '.join(missing)}; the migrations come first.", remedy=CURRENT)
    if len({tables[name].sql_schema for name in Base.metadata.tables}) > 1:
        raise CannotJudge(
            "Parley's tables are seen in more than one schema.", remedy="flask ops doctor --only migrations.drift"
        )
    if "alembic_version" not in tables:
        return  # made from the models, by no migration
    row, head = REVISION.one(probe.connection, {}), _HEAD.read_text().strip()
    if row is None or row.revision != head:
        at = (row.revision if row else None) or "none"
        ahead = at != "none" and not any(_HEAD.parent.glob(f"versions/{escape(at)}_*.py"))
        raise CannotJudge(
            f"The database is at revision {at} and the models are at {head}; the migrations come first.",
            remedy=CURRENT if ahead else UPGRADE,
        )


def _twin(each: Declared, ours: dict[str, Index]) -> Index | None:
    """An index under a name that no model declares, which is just what is declared."""
    for index in ours.values():
        free = index.name not in declared() and index.serves and bool(index.constraint) is bool(each.constraint)
        if free and each.is_like(index):
            return index
    return None


def _renamed(each: Declared, twin: Index) -> Case:
    what = f"{each.table} has {each.name} under another name, {twin.name}; migrations will look for the declared one."
    undo = f"ALTER INDEX {twin.sql_schema}.{each.name} RENAME TO {twin.sql_plain_name}"
    step = replace(
        build(CHECK, twin, (_rename(twin.sql_name, each.name),), (undo,)), lock=Lock.BRIEF, reads_bytes=0, disk_bytes=0
    )
    return case(Level.WARNING, what, {"index": each.name, "found": twin.sql_name}, step=step, remedy=PLAN)


def _missing(each: Declared, table: Row[Any]) -> Case:
    what = f"{each.table} lacks its {'unique ' if each.unique else ''}index {each.name}."
    evidence = {"index": each.name, "table": table.sql_name, "definition": each.definition}
    statement = each.statement(each.name, table.sql_name)
    if each.constraint:
        return case(Level.CRITICAL, what, evidence, sql=f"{statement};\n{_adopted(each, table)};", remedy=BY_HAND)
    step = Step(
        check=CHECK,
        why=what,
        table=table.sql_name,
        index=f"{table.sql_schema}.{each.name}",
        sql=(statement,),
        undo=(f"DROP INDEX CONCURRENTLY {table.sql_schema}.{each.name}",),
        lock=Lock.BUILD,
        table_bytes=table.bytes,
        index_bytes=0,
        reads_bytes=CONCURRENT_READS * table.bytes,
        disk_bytes=table.bytes,  # no index of ours is larger than its table
        tablespace=table.tablespace,
        ours=True,
        owned=table.is_owned,
    )
    return case(Level.CRITICAL, what, evidence, step=step, remedy=PLAN)


def _name_taken(each: Declared, other: Index) -> Case:
    what = (
        f"{each.table} lacks its {'unique ' if each.unique else ''}index {each.name}; an index of {other.sql_table} has"
        " its name."
    )
    evidence = {"index": each.name, "found": other.definition, "declared": each.definition}
    free = new_name(f"{each.name[:MOST_OF_A_NAME]}_by_hand")
    remedy = f"Give that one another name, or drop it; then {PLAN}"
    return case(Level.CRITICAL, what, evidence, sql=f"{_rename(other.sql_name, free)};", remedy=remedy)


def _other(each: Declared, found: Index, twin: Index | None, table: Row[Any]) -> Case:
    what = f"{found.sql_name} is another index than Parley's models declare under that name."
    evidence: dict[str, Any] = {"index": found.sql_name, "found": found.definition, "declared": each.definition}
    if each.constraint or found.constraint:
        evidence |= {"constraint": found.constraint, "constraint_declared": each.constraint}
        sql = f"{_adopted(each, table)};" if each.is_like(found) and each.constraint and found.serves else None
        return case(Level.CRITICAL, what, evidence, sql=sql, remedy=BY_HAND)
    draft = twin.sql_name if twin else f"{found.sql_schema}.{each.name}{DRAFT}"
    built = () if twin else (each.statement(f"{each.name}{DRAFT}", table.sql_name),)
    swapped = (f"DROP INDEX CONCURRENTLY {found.sql_name}", _rename(draft, each.name))
    undo = (
        _rename(found.sql_name, f"{each.name}{DRAFT}"),
        found.definition_concurrently,
        f"DROP INDEX CONCURRENTLY {found.sql_schema}.{each.name}{DRAFT}",
    )
    step = replace(build(CHECK, found, (*built, *swapped), undo), disk_bytes=max(found.bytes, found.table_bytes))
    return case(Level.CRITICAL if each.unique else Level.WARNING, what, evidence, step=step, remedy=PLAN)


def _adopted(each: Declared, table: Row[Any]) -> str:
    return f"ALTER TABLE {table.sql_name} ADD CONSTRAINT {each.name} {each.constraint} USING INDEX {each.name}"


def _rename(sql_name: str, to: str) -> str:
    return f"ALTER INDEX {sql_name} RENAME TO {to}"
