"""Differences between the schema and the models, as Alembic finds them, each with the SQL that fixes it."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from sqlalchemy import Column, Connection, ForeignKeyConstraint, Row
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable, ExecutableDDLElement

from app.models import Base
from app.repositories.statement import Statement
from ops.upgrades.pending import alembic_silenced

LOST = "Was it dropped by hand, and is a backup needed for what it held (docs/restore.md)? If not"

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap


# A table with all columns of a missing one: under its name in a schema that is not looked into, or under another name
# that no model declares. `view` is what the missing name refers to instead.
CANDIDATE = Statement(
    "ops.candidate_table",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name, c.relname = %(name)s AS has_name,
       quote_ident(current_schema()) AS home,
       (SELECT quote_ident(vn.nspname) || '.' || quote_ident(v.relname)
          FROM pg_class v JOIN pg_namespace vn ON vn.oid = v.relnamespace
         WHERE v.oid = to_regclass(quote_ident(%(name)s)) AND v.relkind = 'v') AS view
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND (c.relname = %(name)s OR (pg_table_is_visible(c.oid) AND NOT c.relname = ANY (%(tables)s)))
   AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                                              AND a.attname = ANY (%(columns)s)) = cardinality(%(columns)s::text[])
 ORDER BY c.relname = %(name)s DESC, 1 LIMIT 1""",
)
# Columns of Parley's tables with another collation than the database's. The models declare none.
COLLATIONS = Statement(
    "ops.column_collations",
    """
SELECT c.relname AS table, a.attname AS name, quote_ident(c.relname) AS sql_table, quote_ident(a.attname) AS sql_name,
       format_type(a.atttypid, a.atttypmod) AS type, quote_ident(l.collname) AS collation
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_collation l ON l.oid = a.attcollation
 WHERE c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND a.attnum > 0
   AND NOT a.attisdropped AND a.attcollation <> t.typcollation
 ORDER BY 1, 2""",
)


def find_candidate(connection: Connection, name: str) -> Row[Any] | None:
    """Return a table that may be the missing table `name`; None if there is none."""
    columns = [column.name for column in Base.metadata.tables[name].columns]
    return CANDIDATE.one(connection, {"name": name, "tables": [*Base.metadata.tables], "columns": columns})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference. `breaks_requests`: a table or column is missing that requests need."""

    message: str
    object: str
    remedy: str
    sql: str
    evidence: dict[str, Any] = field(default_factory=dict)
    breaks_requests: bool = False


def find_differences(connection: Connection) -> Iterator[Difference]:
    """Compare tables, columns and foreign keys with the models."""
    with alembic_silenced():
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        upgrade = produce_migrations(context, Base.metadata).upgrade_ops
    operations: Iterable[ops.MigrateOperation] = () if upgrade is None else upgrade.ops
    missing = {operation.table_name for operation in operations if isinstance(operation, ops.CreateTableOp)}
    for name in sorted(missing):
        yield _missing_table(name, find_candidate(connection, name))
    for operation in operations:
        if isinstance(operation, ops.ModifyTableOps):
            yield from _in_table(operation.ops, missing)
    for row in COLLATIONS.all(connection, {"tables": [*Base.metadata.tables]}):
        yield _collation(row)


def _in_table(operations: Iterable[ops.MigrateOperation], missing: set[str]) -> Iterator[Difference]:
    """Return the differences within one table. Foreign keys to a table in `missing` are judged once it exists."""
    operations = list(operations)
    lacking = [operation for operation in operations if isinstance(operation, ops.AddColumnOp)]
    unknown = [operation for operation in operations if isinstance(operation, ops.DropColumnOp)]
    if len(lacking) == len(unknown) == 1:
        yield _renamed_column(lacking[0], unknown[0])
        operations = [operation for operation in operations if operation not in (lacking[0], unknown[0])]
    dropped, added = dict[str, ops.DropConstraintOp](), dict[str, ops.CreateForeignKeyOp]()
    for operation in operations:
        if isinstance(operation, ops.AddColumnOp):
            yield _missing_column(operation)
        elif isinstance(operation, ops.DropColumnOp):
            yield _unknown_column(operation)
        elif isinstance(operation, ops.AlterColumnOp):
            yield from _changed_column(operation)
        elif isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "foreignkey":
            dropped[str(operation.constraint_name)] = operation
        elif isinstance(operation, ops.CreateForeignKeyOp):
            added[str(operation.constraint_name)] = operation
    for name, foreign_key in added.items():
        existing = dropped.pop(name, None)
        if foreign_key.referent_table not in missing:
            yield _foreign_key(foreign_key.source_table, name, existing)
    for name, constraint in dropped.items():
        yield _unknown_foreign_key(constraint, name)


def _missing_table(name: str, candidate: Row[Any] | None) -> Difference:
    if candidate is not None:
        hides = f"DROP VIEW {candidate.view};\n" if candidate.view else ""
        if candidate.has_name:
            question = "Does a view hide it, or was it moved? If so, undo that"
            move = "" if candidate.view else f"ALTER TABLE {candidate.sql_name} SET SCHEMA {candidate.home};"
        else:
            question = "Was it renamed, and does nothing need the other name? If so, rename it back"
            move = f"ALTER TABLE {candidate.sql_name} RENAME TO {name};"
        return Difference(
            message=f"The table {name} is missing; {candidate.sql_name} has its columns.",
            object=name,
            evidence={"candidate": candidate.sql_name, "view": candidate.view},
            breaks_requests=True,
            remedy=question,
            sql=f"{hides}{move}".strip(),
        )
    table = Base.metadata.tables[name]
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    statements: list[ExecutableDDLElement] = [CreateTable(table), *(CreateIndex(index) for index in indexes)]
    return Difference(
        message=f"The table {name} is missing.",
        object=name,
        breaks_requests=True,
        remedy=f"{LOST}, create it empty",
        sql="\n".join(f"{str(each.compile(dialect=_DIALECT)).strip()};" for each in statements),
    )


def _renamed_column(lacking: ops.AddColumnOp, unknown: ops.DropColumnOp) -> Difference:
    table, name, other = lacking.table_name, lacking.column.name, unknown.column_name
    return Difference(
        message=f"The column {table}.{name} is missing; the column {other} is in no model.",
        object=f"{table}.{name}",
        breaks_requests=True,
        remedy=f"Was it renamed to {other}? If so, rename it back; if not, a backup has its values (docs/restore.md)",
        sql=f"ALTER TABLE {table} RENAME COLUMN {_DIALECT.identifier_preparer.quote(other)} TO {name};",
    )


def _collation(row: Row[Any]) -> Difference:
    return Difference(
        message=f"The collation of {row.table}.{row.name} is {row.collation}, and not the database's.",
        object=f"{row.table}.{row.name} collation",
        evidence={"collation": row.collation},
        remedy="Undo the change: the statement rebuilds its indexes, and rewrites nothing else",
        sql=f'ALTER TABLE {row.sql_table} ALTER COLUMN {row.sql_name} TYPE {row.type} COLLATE "default";',
    )


def _missing_column(operation: ops.AddColumnOp) -> Difference:
    column = operation.column
    needs_value = not column.nullable and column.server_default is None
    return Difference(
        message=f"The column {operation.table_name}.{column.name} is missing.",
        object=f"{operation.table_name}.{column.name}",
        breaks_requests=True,
        remedy=f"{LOST}, add it again"
        + (": that fails while the table has rows, because each needs a value" if needs_value else ""),
        sql=_render(operation),
    )


def _unknown_column(operation: ops.DropColumnOp) -> Difference:
    return Difference(
        message=f"The column {operation.table_name}.{operation.column_name} is in no model.",
        object=f"{operation.table_name}.{operation.column_name}",
        remedy="Who added it, and does anything read it? If not, drop it; its values are lost",
        sql=_render(operation),
    )


def _changed_column(operation: ops.AlterColumnOp) -> Iterator[Difference]:
    """Return one difference for each attribute, with a statement for it alone."""
    table, name = operation.table_name, operation.column_name
    column = Base.metadata.tables[table].columns[name]
    if operation.modify_type is not None:
        kind = column.type.compile(dialect=_DIALECT)
        yield _attribute(
            column,
            "type",
            (str(operation.existing_type), kind),
            f"TYPE {kind} USING {name}::{kind}",
            "Undo the change: the statement rewrites the table while it blocks reads and writes",
        )
    if operation.modify_nullable is not None:
        yield _attribute(
            column,
            "nullability",
            ("NULL", "NOT NULL") if not column.nullable else ("NOT NULL", "NULL"),
            f"{'DROP' if column.nullable else 'SET'} NOT NULL",
            "Undo the change"
            if column.nullable
            else "Undo the change: the statement blocks writes while it reads the table; a row without value fails it",
        )
    if operation.modify_server_default is not False:
        default = _DIALECT.ddl_compiler(_DIALECT, None).get_column_default_string(column)  # type: ignore[arg-type]
        existing = operation.existing_server_default
        yield _attribute(
            column,
            "default",
            (str(getattr(existing, "arg", existing) if existing else "none"), default or "none"),
            f"SET DEFAULT {default}" if default else "DROP DEFAULT",
            "Undo the change; existing rows keep their values",
        )


def _attribute(column: Column[Any], attribute: str, values: tuple[str, str], change: str, remedy: str) -> Difference:
    return Difference(
        message=f"The {attribute} of {column} differs from the model.",
        object=f"{column} {attribute}",
        evidence=dict(zip(("database", "model"), values, strict=True)),
        remedy=remedy,
        sql=f"ALTER TABLE {column.table.name} ALTER COLUMN {column.name} {change};",
    )


def _foreign_key(table: str, name: str, existing: ops.DropConstraintOp | None) -> Difference:
    declared = next(
        each
        for each in Base.metadata.tables[table].constraints
        if isinstance(each, ForeignKeyConstraint) and each.name == name
    )
    definition = str(AddConstraint(declared).compile(dialect=_DIALECT)).partition(" ADD ")[2]
    drop = f"DROP CONSTRAINT {name}, " if existing is not None else ""
    reference = existing.to_constraint() if existing is not None else None
    found = None if reference is None else str(AddConstraint(reference).compile(dialect=_DIALECT)).partition(" ADD ")[2]
    return Difference(
        message=f"The foreign key {name} of {table} is {'missing' if existing is None else 'changed'}: rows may be"
        " deleted, kept or accepted against the models.",
        object=name,
        evidence={"declared": definition} | ({} if found is None else {"found": found}),
        remedy="Add it and validate it: that fails if a row violates it"
        if existing is None
        else "Replace it by the declared one and validate it: that fails if a row violates it",
        sql=f"ALTER TABLE {table} {drop}ADD {definition} NOT VALID;\nALTER TABLE {table} VALIDATE CONSTRAINT {name};",
    )


def _unknown_foreign_key(operation: ops.DropConstraintOp, name: str) -> Difference:
    return Difference(
        message=f"The foreign key {name} of {operation.table_name} is in no model: it may refuse or delete rows.",
        object=name,
        remedy="Who added it, and does anything need it? If not, drop it",
        sql=_render(operation),
    )


def _render(operation: ops.MigrateOperation) -> str:
    buffer = io.StringIO()
    context = MigrationContext.configure(dialect=_DIALECT, opts={"as_sql": True, "output_buffer": buffer})
    with Operations.context(context) as operations:
        operations.invoke(operation)
    return buffer.getvalue().strip()
