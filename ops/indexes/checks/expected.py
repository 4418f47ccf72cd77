"""The indexes that Parley's models declare, compared with the database: missing, renamed, different or invalid."""

from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.indexes.declared import DeclaredIndex, declared_indexes
from ops.indexes.findings import PLAN, IndexFinding, build_step, index_finding, rebuild_step, without_steps
from ops.indexes.in_progress import broken_indexes
from ops.indexes.snapshot import Index, IndexSnapshot, quoted_name, read_indexes
from ops.indexes.steps import CONCURRENT_READS, Step, StepLock
from ops.levels import Level

CHECK = "indexes.expected"
UPGRADE = "flask db upgrade"
CURRENT = "flask ops doctor --only migrations.current"
DRAFT = "_parley"  # the suffix of an index that is built to replace another one
MAX_NAME_PREFIX = 50  # characters; PostgreSQL cuts names to 63 bytes
BY_HAND = "It belongs to a constraint, so no plan changes it. Is there a backup? Then run the statement by hand"

_HEAD = Path(__file__).parents[3] / "migrations" / ".current-head"

MODEL_TABLES = Statement(
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


@check(CHECK, "Does every index that the models declare exist as declared?", severity=Level.CRITICAL)
def expected(context: CheckContext) -> Iterator[Finding]:
    """Find declared indexes that are missing, invalid or different.

    Raises `UnknownState` if a table is missing or the database is at another revision: migrate first.
    """
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(context: CheckContext, snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    tables = {row.name: row for row in MODEL_TABLES.all(context.connection, {})}
    _require_current_revision(context, tables)
    actual_by_name = {index.name: index for index in snapshot.indexes if index.is_parley_table}
    names = {(index.schema, index.name): index for index in snapshot.indexes}
    broken = {index.oid for index in broken_indexes(context, snapshot)}
    for declared in declared_indexes().values():
        table, actual = tables[declared.table], actual_by_name.get(declared.name)
        if table.sql_name in snapshot.locked:
            continue
        twin = _twin(declared, actual_by_name)
        if actual is None or actual.table != declared.table:
            if other := names.get((table.schema, declared.name)):
                yield _name_taken(declared, other)
                continue
            yield _renamed(declared, twin) if twin else _missing(declared, table)
        elif not declared.is_like(actual) or bool(actual.constraint) is not bool(declared.constraint):
            yield _different(declared, actual, twin, table)
        elif actual.oid in broken:
            message = f"{actual.sql_name}, which Parley's queries need, is invalid: PostgreSQL does not use it."
            evidence = {"index": actual.sql_name, "table": actual.sql_table, "bytes": actual.bytes}
            yield index_finding(Level.CRITICAL, message, evidence, step=rebuild_step(CHECK, actual), remedy=PLAN)


def _require_current_revision(context: CheckContext, tables: dict[str, Row[Any]]) -> None:
    """Raise `UnknownState` unless the database is at the revision of the models."""
    if missing := sorted(set(Base.metadata.tables) - set(tables)):
        raise UnknownState(f"Tables are missing: {', '.join(missing)}. Migrate first.", remedy=CURRENT)
    if len({tables[name].sql_schema for name in Base.metadata.tables}) > 1:
        raise UnknownState(
            "Parley's tables are in more than one schema.", remedy="flask ops doctor --only migrations.drift"
        )
    if "alembic_version" not in tables:
        return  # created from the models without migrations, as in tests
    row, head = REVISION.one(context.connection, {}), _HEAD.read_text().strip()
    if row is None or row.revision != head:
        at = (row.revision if row else None) or "none"
        ahead = at != "none" and not any(_HEAD.parent.glob(f"versions/{escape(at)}_*.py"))
        raise UnknownState(
            f"The database is at revision {at} and the models are at {head}. Migrate first.",
            remedy=CURRENT if ahead else UPGRADE,
        )


def _twin(declared: DeclaredIndex, actual_by_name: dict[str, Index]) -> Index | None:
    """Return a valid index with this definition and a name that no model declares."""
    for index in actual_by_name.values():
        is_undeclared = index.name not in declared_indexes()
        same_kind = bool(index.constraint) is bool(declared.constraint)
        if is_undeclared and index.is_usable and same_kind and declared.is_like(index):
            return index
    return None


def _renamed(declared: DeclaredIndex, twin: Index) -> IndexFinding:
    message = (
        f"{declared.table} has {declared.name} under another name, {twin.name}; migrations expect the declared name."
    )
    undo = f"ALTER INDEX {twin.sql_schema}.{declared.name} RENAME TO {twin.sql_plain_name}"
    step = replace(
        build_step(CHECK, twin, (_rename(twin.sql_name, declared.name),), (undo,)),
        lock=StepLock.BRIEF,
        reads_bytes=0,
        disk_bytes=0,
    )
    evidence = {"index": declared.name, "found": twin.sql_name}
    return index_finding(Level.WARNING, message, evidence, step=step, remedy=PLAN)


def _missing(declared: DeclaredIndex, table: Row[Any]) -> IndexFinding:
    message = f"{declared.table} lacks its {'unique ' if declared.unique else ''}index {declared.name}."
    evidence = {"index": declared.name, "table": table.sql_name, "definition": declared.definition}
    statement = declared.statement(declared.name, table.sql_name)
    if declared.constraint:
        sql = f"{statement};\n{_add_constraint(declared, table)};"
        return index_finding(Level.CRITICAL, message, evidence, sql=sql, remedy=BY_HAND)
    step = Step(
        check=CHECK,
        reason=message,
        table=table.sql_name,
        index=f"{table.sql_schema}.{declared.name}",
        sql=(statement,),
        undo=(f"DROP INDEX CONCURRENTLY {table.sql_schema}.{declared.name}",),
        lock=StepLock.BUILD,
        table_bytes=table.bytes,
        index_bytes=0,
        reads_bytes=CONCURRENT_READS * table.bytes,
        disk_bytes=table.bytes,  # none of Parley's indexes is larger than its table
        tablespace=table.tablespace,
        is_parley_table=True,
        is_owner=table.is_owned,
    )
    return index_finding(Level.CRITICAL, message, evidence, step=step, remedy=PLAN)


def _name_taken(declared: DeclaredIndex, other: Index) -> IndexFinding:
    message = (
        f"{declared.table} lacks its {'unique ' if declared.unique else ''}index {declared.name}; an index of"
        f" {other.sql_table} has its name."
    )
    evidence = {"index": declared.name, "found": other.definition, "declared": declared.definition}
    new_name = quoted_name(f"{declared.name[:MAX_NAME_PREFIX]}_by_hand")
    remedy = f"Is the other index needed? Rename it, or drop it; then {PLAN}"
    return index_finding(Level.CRITICAL, message, evidence, sql=f"{_rename(other.sql_name, new_name)};", remedy=remedy)


def _different(declared: DeclaredIndex, actual: Index, twin: Index | None, table: Row[Any]) -> IndexFinding:
    message = f"{actual.sql_name} differs from the index that Parley's models declare under that name."
    evidence: dict[str, Any] = {
        "index": actual.sql_name,
        "found": actual.definition,
        "declared": declared.definition,
    }
    if declared.constraint or actual.constraint:
        evidence |= {"constraint": actual.constraint, "constraint_declared": declared.constraint}
        lacks_constraint = declared.is_like(actual) and declared.constraint and actual.is_usable
        sql = f"{_add_constraint(declared, table)};" if lacks_constraint else None
        return index_finding(Level.CRITICAL, message, evidence, sql=sql, remedy=BY_HAND)
    draft = twin.sql_name if twin else f"{actual.sql_schema}.{declared.name}{DRAFT}"
    build = () if twin else (declared.statement(f"{declared.name}{DRAFT}", table.sql_name),)
    swap = (f"DROP INDEX CONCURRENTLY {actual.sql_name}", _rename(draft, declared.name))
    undo = (
        _rename(actual.sql_name, f"{declared.name}{DRAFT}"),
        actual.definition_concurrently,
        f"DROP INDEX CONCURRENTLY {actual.sql_schema}.{declared.name}{DRAFT}",
    )
    step = replace(build_step(CHECK, actual, (*build, *swap), undo), disk_bytes=max(actual.bytes, actual.table_bytes))
    level = Level.CRITICAL if declared.unique else Level.WARNING
    return index_finding(level, message, evidence, step=step, remedy=PLAN)


def _add_constraint(declared: DeclaredIndex, table: Row[Any]) -> str:
    name = declared.name
    return f"ALTER TABLE {table.sql_name} ADD CONSTRAINT {name} {declared.constraint} USING INDEX {name}"


def _rename(sql_name: str, to: str) -> str:
    return f"ALTER INDEX {sql_name} RENAME TO {to}"
