"""A database in which Parley finds no revision: why, and what to do instead of an upgrade from the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.findings import Finding
from ops.doctor.schema_differences import find_differences
from ops.doctor.table_locations import LOCATIONS
from ops.levels import Level
from ops.upgrades.pending import known_revisions

VERSION_TABLE, USERS = "alembic_version", "users"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """A schema with tables of Parley's names. `has_users` is None if this role may not read them."""

    name: str
    is_visible: bool
    is_usable: bool
    is_in_path: bool
    has_known_revision: bool
    has_users: bool | None


def read_schemas(connection: Connection) -> list[SchemaState]:
    """Read the schemas that have tables of Parley's names."""
    tables = LOCATIONS.all(connection, {"names": [VERSION_TABLE, *Base.metadata.tables]})
    schemas = dict.fromkeys(row.sql_schema for row in tables)
    return [_state(connection, schema, [row for row in tables if row.sql_schema == schema]) for schema in schemas]


def find_lost_revision(connection: Connection, expected: str) -> Finding | None:
    """Return the reason why a database without a revision must not be upgraded from the first one; None if it may."""
    schemas = read_schemas(connection)
    in_use = [schema for schema in schemas if schema.is_visible]
    hidden = [schema for schema in schemas if not schema.is_visible and schema.has_known_revision]
    with_users = [schema for schema in hidden if schema.has_users is not False]
    if with_users and not any(schema.has_users for schema in in_use):
        return _other_schema(with_users, "; its users are there")
    if in_use:
        return _unrecorded(connection, in_use, expected)
    if forbidden := [schema for schema in schemas if schema.is_in_path and not schema.is_usable]:
        return Finding(
            level=Level.CRITICAL,
            message=f"This role may not use the schema {forbidden[0].name}, which has Parley's tables.",
            object=forbidden[0].name,
            evidence={"schemas": [schema.name for schema in forbidden]},
            remedy="Which privilege is missing? flask ops doctor --only connection.privileges",
        )
    return _other_schema(hidden, "") if hidden else None


def find_unused_data(connection: Connection) -> Finding | None:
    """Return a finding if the tables in use have no users, and those of another schema have some."""
    schemas = read_schemas(connection)
    if len(schemas) < 2 or any(schema.has_users is not False for schema in schemas if schema.is_visible):
        return None
    others = [schema for schema in schemas if not schema.is_visible and schema.has_known_revision and schema.has_users]
    return _other_schema(others, "; those in use have no users") if others else None


def _state(connection: Connection, schema: str, tables: Sequence[Row[Any]]) -> SchemaState:
    readable = {row.name for row in tables if row.is_readable}
    names = {row.name for row in tables}
    revisions: list[str] = []
    if VERSION_TABLE in readable:
        query = Statement("ops.schema_revision", f"SELECT version_num FROM {schema}.{VERSION_TABLE} LIMIT 2")  # noqa: S608
        revisions = [row.version_num for row in query.all(connection, {})]
    has_users: bool | None = False if USERS not in names else None
    if USERS in readable:
        query = Statement("ops.schema_users", f"SELECT EXISTS (SELECT FROM {schema}.{USERS}) AS found")  # noqa: S608
        has_users = bool(query.all(connection, {})[0].found)
    return SchemaState(
        schema,
        is_visible=any(row.is_visible for row in tables if row.name != VERSION_TABLE),
        is_usable=all(row.is_usable for row in tables),
        is_in_path=tables[0].is_in_path,
        has_known_revision=len(revisions) == 1 and revisions[0] in known_revisions(),
        has_users=has_users,
    )


def _other_schema(schemas: Sequence[SchemaState], addition: str) -> Finding:
    names = [schema.name for schema in schemas]
    if len(names) > 1:
        remedy = "Which of the schemas belongs to this installation? Set DB_SEARCH_PATH to it"
    elif schemas[0].has_users:
        remedy = f"Set DB_SEARCH_PATH={names[0]}"
    else:
        remedy = (
            f"Does that schema belong to this installation? If so, set DB_SEARCH_PATH={names[0]}; if it belongs to"
            " another one: flask db upgrade"
        )
    return Finding(
        level=Level.CRITICAL,
        message=f"Parley's tables are in the schema {', '.join(names)}, which is not in DB_SEARCH_PATH{addition}.",
        object="search_path",
        evidence={"schemas": names},
        remedy=remedy,
    )


def _unrecorded(connection: Connection, in_use: Sequence[SchemaState], expected: str) -> Finding:
    """Return the finding for tables without a recorded revision: it can be recorded if they match this code."""
    differences = [difference.message for difference in find_differences(connection)]
    return Finding(
        level=Level.CRITICAL,
        message="Parley's tables exist, but alembic_version, which records their revision, is missing or empty.",
        object="alembic_version",
        evidence={"schemas": [schema.name for schema in in_use], "code": expected, "differences": differences[:10]},
        remedy="Which revision had the last deployment? Record that one with flask db stamp; do not upgrade before,"
        " because that would start at the first revision. If these are tables of another application, use another"
        " schema (DB_SEARCH_PATH) or database"
        if differences
        else f"flask db stamp {expected} records it: the tables match this code. Do not upgrade before",
    )
