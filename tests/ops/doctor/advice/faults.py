"""Faults that a check finds, each with the advice that fixes it: the statement or the commands of its finding."""

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: statements of the owner, and the place in the code that gives the advice for it.

    `{database}` in a statement is the database's name, quoted. `settings` change those of the installation.
    """

    site: str
    check: str
    statements: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    since: int = 15  # major version of PostgreSQL


def _f(site: str, check: str, *statements: str, **options: Any) -> Fault:
    return Fault(site, check, statements, **options)


CHECK_STATUS = "ALTER TABLE turns DROP CONSTRAINT ck_turns_status"

FAULTS = (
    _f(
        "autovacuum.autovacuum#2",
        "tables.autovacuum",
        "ALTER TABLE messages SET (autovacuum_vacuum_threshold = 2000000000)",
    ),
    _f("constraints._disabled", "tables.constraints", "ALTER TABLE turns DISABLE TRIGGER ALL"),
    _f(
        "constraints._not_enforced",
        "tables.constraints",
        f"{CHECK_STATUS}, ADD CONSTRAINT ck_turns_status CHECK (status IN ('running', 'completed', 'failed',"
        " 'cancelled', 'interrupted')) NOT ENFORCED",
        since=18,
    ),
    _f(
        "constraints._not_enforced#2",
        "tables.constraints",
        f"{CHECK_STATUS}, ADD CONSTRAINT ck_turns_status CHECK (status IN ('running', 'completed', 'failed',"
        " 'cancelled', 'interrupted')) NOT VALID",
    ),
    _f("constraints._undeclared", "tables.constraints", CHECK_STATUS),
    _f(
        "constraints._undeclared#2",
        "tables.constraints",
        f"{CHECK_STATUS}, ADD CONSTRAINT ck_turns_status CHECK (status <> '')",
    ),
    _f(
        "unexpected_constraints.find_unexpected",
        "tables.constraints",
        "ALTER TABLE users ADD CONSTRAINT theirs CHECK (name <> 'x')",
    ),
    _f(
        "unexpected_constraints.find_unexpected",
        "tables.constraints",
        "CREATE TABLE theirs (a uuid REFERENCES users (id))",
    ),
    _f("unexpected_constraints._index_finding", "tables.constraints", "CREATE UNIQUE INDEX theirs ON users (name)"),
    _f(
        "drift.drift",
        "migrations.drift",
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER theirs BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION swallow()",
    ),
    _f("drift.drift", "migrations.drift", "CREATE RULE theirs AS ON DELETE TO turns DO INSTEAD NOTHING"),
    _f("triggers._not_counted#2", "migrations.triggers", "ALTER TABLE messages DISABLE TRIGGER count_stored_delete"),
    _f(
        "triggers._not_counted#2", "migrations.triggers", "ALTER TABLE tasks ENABLE REPLICA TRIGGER count_stored_update"
    ),
    _f("triggers._not_counted#2", "migrations.triggers", "DROP TRIGGER count_stored_insert ON prompts"),
    _f(
        "triggers._not_counted#2",
        "migrations.triggers",
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP TRIGGER count_stored_insert ON messages",
        "CREATE TRIGGER count_stored_insert AFTER INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION theirs()",
    ),
    _f(
        "triggers._event_triggers#2",
        "migrations.triggers",
        "CREATE FUNCTION record_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION record_ddl()",
        "ALTER EVENT TRIGGER theirs DISABLE",
    ),
    _f("planner._finding", "server.planner", "ALTER DATABASE {database} SET random_page_cost = 100"),
    _f("planner._finding", "server.planner", "ALTER DATABASE {database} SET effective_cache_size = '8kB'"),
    _f("planner._finding", "server.planner", "ALTER DATABASE {database} SET default_statistics_target = 1"),
    _f("planner._finding", "server.planner", "ALTER DATABASE {database} SET log_statement = 'all'"),
    _f("planner._finding", "server.planner", "ALTER DATABASE {database} SET track_activities = off"),
    _f("drift._inherits", "migrations.drift", "CREATE TABLE theirs () INHERITS (messages)"),
    _f(
        "drift._several_schemas",
        "migrations.drift",
        "CREATE SCHEMA aaa",
        "CREATE TABLE aaa.turns (LIKE public.turns INCLUDING ALL)",
        settings={"database": {"search_path": "aaa, public"}},
    ),
    _f("schema_differences._missing_table", "migrations.drift", "ALTER TABLE projects RENAME TO theirs"),
    _f("schema_differences._missing_table#2", "migrations.drift", "DROP TABLE legal_holds"),
    _f(
        "schema_differences._renamed_column",
        "migrations.drift",
        "ALTER TABLE projects RENAME COLUMN name TO title",
    ),
    _f(
        "schema_differences._collation",
        "migrations.drift",
        'ALTER TABLE users ALTER COLUMN email TYPE varchar(254) COLLATE "C"',
    ),
    _f("schema_differences._missing_column", "migrations.drift", "ALTER TABLE projects DROP COLUMN provider"),
    _f("schema_differences._unknown_column", "migrations.drift", "ALTER TABLE users ADD COLUMN shoe_size int"),
    _f("schema_differences._attribute", "migrations.drift", "ALTER TABLE users ALTER COLUMN name TYPE text"),
    _f("schema_differences._attribute", "migrations.drift", "ALTER TABLE turns ALTER COLUMN provider DROP NOT NULL"),
    _f("schema_differences._attribute", "migrations.drift", "ALTER TABLE users ALTER COLUMN role DROP DEFAULT"),
    _f(
        "schema_differences._foreign_key",
        "migrations.drift",
        "ALTER TABLE sessions DROP CONSTRAINT fk_sessions_users, ADD CONSTRAINT fk_sessions_users"
        " FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL",
    ),
    _f(
        "schema_differences._foreign_key",
        "migrations.drift",
        "ALTER TABLE sessions DROP CONSTRAINT fk_sessions_users",
    ),
    _f(
        "schema_differences._unknown_foreign_key",
        "migrations.drift",
        "ALTER TABLE messages ADD CONSTRAINT theirs FOREIGN KEY (user_id) REFERENCES users",
    ),
    _f("durability.durable", "storage.durable", "ALTER TABLE turn_events SET UNLOGGED"),
    _f("durability.durable#2", "storage.durable", "ALTER DATABASE {database} SET synchronous_commit = off"),
    _f("durability.durable#2", "storage.durable", "ALTER DATABASE {database} SET zero_damaged_pages = on"),
    _f("memory._finding", "server.memory", "ALTER DATABASE {database} SET work_mem = '64kB'"),
    _f("memory._finding", "server.memory", "ALTER DATABASE {database} SET work_mem = '2GB'"),
    _f("migrations._several_revisions", "migrations.current", "INSERT INTO alembic_version VALUES ('0003')"),
    _f("lost_revision._unrecorded", "migrations.current", "DELETE FROM alembic_version"),
    _f("lost_revision._unrecorded", "migrations.current", "DROP TABLE alembic_version"),
    _f("migrations.current", "migrations.current", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public"),
    _f("migrations.next_upgrade", "migrations.next", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public"),
    _f("vacuum.vacuum", "tables.vacuum", "ALTER TABLE messages SET (autovacuum_enabled = false)"),
    _f(
        "vacuum.vacuum#2",
        "tables.vacuum",
        "CREATE TABLE things WITH (autovacuum_enabled = false) AS SELECT i FROM generate_series(1, 30000) AS i",
        "DELETE FROM things WHERE i <= 20000",
        "SELECT pg_stat_force_next_flush()",
    ),
    _f(
        "statistics.statistics#2",
        "tables.statistics",
        "ALTER TABLE users ALTER COLUMN name SET STATISTICS 0",
    ),
    _f(
        "statistics.index_findings",
        "tables.statistics",
        "CREATE TABLE things WITH (autovacuum_enabled = false) AS SELECT i FROM generate_series(1, 30000) AS i",
        "SELECT pg_stat_force_next_flush()",
    ),
    _f("expected._missing#2", "indexes.expected", "DROP INDEX ix_turns_conversation"),
    _f("expected._renamed", "indexes.expected", "ALTER INDEX ix_turns_conversation RENAME TO theirs"),
    _f(
        "expected._different#2",
        "indexes.expected",
        "DROP INDEX ix_turns_conversation",
        "CREATE INDEX ix_turns_conversation ON turns (id)",
    ),
    _f(
        "foreign_keys._finding#2",
        "indexes.foreign_keys",
        "CREATE TABLE theirs (a uuid REFERENCES users (id))",
    ),
    _f(
        "foreign_keys._finding",
        "indexes.foreign_keys",
        "CREATE TABLE theirs (a uuid REFERENCES users (id), day int) PARTITION BY LIST (day)",
        "CREATE TABLE theirs_1 PARTITION OF theirs FOR VALUES IN (1)",
    ),
    _f("overlap._finding", "indexes.duplicate", "CREATE INDEX one ON users (name)", "CREATE INDEX two ON users (name)"),
    _f(
        "overlap._finding",
        "indexes.redundant",
        "CREATE INDEX one ON users (name)",
        "CREATE INDEX two ON users (name, role)",
    ),
)
