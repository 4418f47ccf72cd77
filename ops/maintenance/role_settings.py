"""The settings that Parley relies on, written for its role in its database, for connections through a pooler.

A pooler drops the options with which Parley asks for them, and nothing may be set in a session that it shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import quote_ident
from sqlalchemy import Connection

from app.container import current_settings
from app.database import autocommit
from app.repositories.atomic import atomically
from app.repositories.statement import Statement
from app.session_settings import SessionSetting, session_settings

# `reset_val` is the value at the start of the session, without what a client of a pooler may have set in it.
ACTUAL = Statement(
    "ops.session_settings",
    "SELECT name, reset_val AS value FROM pg_settings WHERE lower(name) = ANY (%(names)s)",
)
ROLE = Statement("ops.session_role", "SELECT session_user::text AS role, current_database()::text AS database")
# Values of the role in the database, of the role, of the database, and of all roles, in this order of precedence.
WRITTEN = Statement(
    "ops.written_settings",
    """
SELECT split_part(entry, '=', 1) AS name, substr(entry, strpos(entry, '=') + 1) AS value,
       CASE WHEN setrole <> 0 THEN format('ROLE %%I', session_user) ||
                 CASE WHEN setdatabase <> 0 THEN format(' IN DATABASE %%I', current_database()) ELSE '' END
            WHEN setdatabase <> 0 THEN format('DATABASE %%I', current_database())
            ELSE 'ROLE ALL' END AS owner,
       coalesce((SELECT category FROM pg_settings WHERE lower(name) = lower(split_part(entry, '=', 1))), '') AS category
  FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS entry
 WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
   AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
 ORDER BY setrole <> 0 DESC, setdatabase <> 0 DESC""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A setting of new sessions: its value now, and the one that Parley expects, because of `reason`."""

    name: str
    now: str | None
    expected: str
    reason: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSettings:
    """The settings to write for the role in the database. `written`: the transaction that wrote them is committed."""

    role: str
    database: str
    changes: tuple[SettingChange, ...]
    written: bool = False


@dataclass(frozen=True, slots=True)
class WrittenSetting:
    """A value in PostgreSQL's catalogue. `owner` is what ALTER names, such as `ROLE parley`."""

    value: str
    owner: str
    category: str  # of pg_settings; empty for a setting of an extension


def plan_role_settings() -> RoleSettings:
    """Return the expected settings that new sessions of DATABASE_URL's role would not get without startup options."""
    with autocommit() as connection:
        return _plan(connection)


def write_role_settings() -> RoleSettings:
    """Write those settings, by ALTER ROLE ... IN DATABASE ... SET in one transaction."""
    with autocommit() as connection, atomically(connection):
        plan = _plan(connection)
        for change in plan.changes:
            connection.exec_driver_sql(change.sql)
    return RoleSettings(role=plan.role, database=plan.database, changes=plan.changes, written=True)


def expected_settings(connection: Connection) -> tuple[SessionSetting, ...]:
    """Return the declared settings that the connection's server has."""
    version = connection.connection.server_version // 10_000
    return tuple(each for each in session_settings(current_settings().database) if each.since <= version)


def actual_settings(connection: Connection) -> Mapping[str, str]:
    """Return the values that the connection's session began with, by lower-case name."""
    names = [setting.name.lower() for setting in expected_settings(connection)]
    return {row.name.lower(): row.value for row in ACTUAL.all(connection, {"names": names})}


def written_settings(connection: Connection) -> Mapping[str, WrittenSetting]:
    """Return the values that count for the connection's role in its database, by lower-case name."""
    written: dict[str, WrittenSetting] = {}
    for row in WRITTEN.all(connection, {}):
        written.setdefault(row.name.lower(), WrittenSetting(row.value, row.owner, row.category))
    return written


def _plan(connection: Connection) -> RoleSettings:
    row: Any = ROLE.one(connection, {})
    driver: Any = connection.connection.dbapi_connection
    target = f"ROLE {quote_ident(row.role, driver)} IN DATABASE {quote_ident(row.database, driver)}"
    actual, written = actual_settings(connection), written_settings(connection)
    changes = []
    for setting in expected_settings(connection):
        name = setting.name.lower()
        if name in written:
            now: str | None = written[name].value
        else:  # a direct session began with startup options, which hide the server's own value
            now = actual.get(name) if driver.is_pooled else None
        if now is None or not setting.matches(now):
            values = ", ".join(f"'{part.strip().strip(chr(34))}'" for part in setting.value.split(","))
            changes.append(
                SettingChange(
                    name=setting.name,
                    now=now,
                    expected=setting.value,
                    reason=setting.reason,
                    sql=f"ALTER {target} SET {setting.name} = {values}",
                )
            )
    return RoleSettings(role=row.role, database=row.database, changes=tuple(changes))
