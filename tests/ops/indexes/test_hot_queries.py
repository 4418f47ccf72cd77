"""Frequent statements that scan a large table sequentially."""

from collections.abc import Callable

import pytest

from app.repositories.statement import Statement
from ops.errors import UnknownState
from ops.indexes.checks import hot_queries as hot
from ops.indexes.checks.hot_queries import hot_queries, plan_nodes
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase
from tests.ops.installation import run_on

TABLE = (
    "CREATE TABLE things (id int PRIMARY KEY, a int, b text)",
    "INSERT INTO things SELECT n, n, repeat('x', 100) FROM generate_series(1, 20000) AS n",
    "ANALYZE things",
)
SLOW = "SELECT /* chat.slow rid=abc-1 */ b FROM things WHERE a = 5"
# Of this database only, because other tests use the same server.
RESET_STATISTICS = (
    "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)"
)
QUICK = "SELECT /* chat.quick */ b FROM things WHERE id = 5"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits: large tables and slow statements take too long."""
    monkeypatch.setattr(hot, "LARGE_BYTES", 1_000_000)
    monkeypatch.setattr(hot, "SLOW_MS", 0.0)


def run_repeatedly(database: IndexDatabase, *statements: str, times: int = 20) -> None:
    database.run(*TABLE, RESET_STATISTICS, *(list(statements) * times))


def test_unindexed_statement_is_found_by_name(shared_database: IndexDatabase) -> None:
    run_repeatedly(shared_database, SLOW, QUICK)
    (finding,) = hot_queries(shared_database.context)
    assert finding.level is Level.WARNING
    assert finding.message.startswith("chat.slow scans public.things in each of 20 calls")
    assert (finding.evidence["calls"], finding.evidence["condition"]) == (20, "(things.a = $1)")
    shared_database.run("CREATE INDEX ON things (a)")
    assert list(hot_queries(shared_database.context)) == []


def test_names_are_those_of_the_application(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, RESET_STATISTICS)
    statement = Statement("things.by_a", "SELECT b FROM things WHERE a = %(a)s AND b LIKE '%%x%%'")
    for number in range(20):
        statement.all(shared_database.owner, {"a": number})
    (finding,) = hot_queries(shared_database.context)
    assert finding.evidence["statement"] == "things.by_a"


def test_prepared_statement_is_found(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, RESET_STATISTICS)
    shared_database.run("PREPARE slow_1 (integer) AS SELECT /* chat.slow */ b FROM things WHERE a = $1")
    shared_database.run(*["EXECUTE slow_1 (5)"] * 20)
    (finding,) = hot_queries(shared_database.context)
    assert finding.message.startswith("chat.slow scans public.things in each of 20 calls")


def test_rare_statement_is_ignored(shared_database: IndexDatabase) -> None:
    run_repeatedly(shared_database, SLOW, times=19)
    assert list(hot_queries(shared_database.context)) == []


def test_fast_statement_is_ignored(shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "SLOW_MS", 10_000.0)
    run_repeatedly(shared_database, SLOW)
    assert list(hot_queries(shared_database.context)) == []


def test_scan_of_a_small_table_is_ignored(database: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(hot, "SLOW_MS", 0.0)
    run_repeatedly(database, SLOW)
    assert database.value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'things'") is not None
    database.run("DROP EXTENSION pg_stat_statements")
    assert list(hot_queries(database.context)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE /* things.write */ things SET b = 'y' WHERE a = -1",
        "DELETE FROM things WHERE a = -1 AND b LIKE '100%'",
        "WITH /* things.with */ found AS (SELECT * FROM things WHERE a = 7) SELECT count(*) FROM found",
        "SELECT count(*) FROM users JOIN things ON things.b = users.name",
        "INSERT INTO things SELECT -1, 1, 'z' FROM things WHERE a = -1",
    ],
)
def test_statements_are_planned_and_not_run(shared_database: IndexDatabase, statement: str) -> None:
    run_repeatedly(shared_database, statement)
    before = shared_database.run("SELECT count(*), sum(a) FROM things")
    (finding,) = hot_queries(shared_database.context)
    assert finding.evidence["table"] == "public.things"
    assert shared_database.run("SELECT count(*), sum(a) FROM things") == before


@pytest.mark.parametrize(
    "text", ["VACUUM things", "SELECT interval $1", "SELECT $1 + things FROM nowhere", "", ";", "%s"]
)
def test_unplannable_statement_is_ignored(shared_database: IndexDatabase, text: str) -> None:
    assert plan_nodes(shared_database.context, text) == []
    assert shared_database.context.connection.exec_driver_sql("SHOW plan_cache_mode").scalar_one() == "auto"
    assert (
        shared_database.context.connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
        == 0
    )


def test_missing_extension_is_unknown(database: IndexDatabase) -> None:
    run_repeatedly(database, SLOW)
    database.run("DROP EXTENSION pg_stat_statements")
    with pytest.raises(UnknownState, match="pg_stat_statements is not installed"):
        list(hot_queries(database.context))


def test_statement_of_another_role_is_not_planned(database: IndexDatabase, drop_privileges: Callable[[], None]) -> None:
    """Planning runs functions that are declared immutable."""
    database.run(*TABLE, "CREATE TABLE planned (by text)", "GRANT SELECT ON things TO PUBLIC")
    database.run(
        "CREATE FUNCTION note() RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN RAISE NOTICE 'planned by %', current_user; RETURN 1; END $$"
    )
    drop_privileges()
    stranger = database.context.connection
    run_on(stranger, *["SELECT /* x.evil */ count(*) FROM things WHERE a = note()"] * 20)
    run_on(stranger, "SELECT pg_stat_force_next_flush()")
    role = stranger.exec_driver_sql("SELECT current_user").scalar_one()
    database.context.open_connection = database.open()
    (finding,) = hot_queries(database.context)
    assert finding.level is Level.UNKNOWN
    assert f"x.evil of role {role} is slow" in finding.message
    assert database.context.connection.connection.notices == []
    stranger.close()
