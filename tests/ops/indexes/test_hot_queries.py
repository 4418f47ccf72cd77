"""Statements that read a large table whole: found by their name and their plan, not by shares."""

from collections.abc import Callable

import pytest

from app.repositories.statement import Statement
from ops.checks.indexes import hot_queries as hot
from ops.checks.indexes.hot_queries import hot_queries, plan_of
from ops.findings import CannotJudge
from ops.levels import Level
from tests.ops.indexes.conftest import House, run_on

TABLE = (
    "CREATE TABLE things (id int PRIMARY KEY, a int, b text)",
    "INSERT INTO things SELECT n, n, repeat('x', 100) FROM generate_series(1, 20000) AS n",
    "ANALYZE things",
)
SLOW = "SELECT /* chat.slow rid=abc-1 */ b FROM things WHERE a = 5"
# Of this database only: others are being watched on the same server.
FORGET = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)"
QUICK = "SELECT /* chat.quick */ b FROM things WHERE id = 5"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large and slow for people takes too long for a test."""
    monkeypatch.setattr(hot, "LARGE_BYTES", 1_000_000)
    monkeypatch.setattr(hot, "SLOW_MS", 0.0)


def asked(house: House, *statements: str, times: int = 20) -> None:
    house.run(*TABLE, FORGET, *(list(statements) * times))


def test_a_statement_without_an_index_is_found_under_our_name(room: House) -> None:
    asked(room, SLOW, QUICK)
    (finding,) = hot_queries(room.probe)
    assert finding.level is Level.WARNING
    assert finding.what.startswith("chat.slow reads all of public.things each of 20 times")
    assert (finding.evidence["calls"], finding.evidence["condition"]) == (20, "(things.a = $1)")
    room.run("CREATE INDEX ON things (a)")
    assert list(hot_queries(room.probe)) == []


def test_the_names_are_those_that_the_application_gives(room: House) -> None:
    room.run(*TABLE, FORGET)
    statement = Statement("things.by_a", "SELECT b FROM things WHERE a = %(a)s AND b LIKE '%%x%%'")
    for number in range(20):
        statement.all(room.connection, {"a": number})
    (finding,) = hot_queries(room.probe)
    assert finding.evidence["statement"] == "things.by_a"


def test_a_statement_that_is_prepared_is_found_too(room: House) -> None:
    room.run(*TABLE, FORGET)
    room.run("PREPARE slow_1 (integer) AS SELECT /* chat.slow */ b FROM things WHERE a = $1")
    room.run(*["EXECUTE slow_1 (5)"] * 20)
    (finding,) = hot_queries(room.probe)
    assert finding.what.startswith("chat.slow reads all of public.things each of 20 times")


def test_what_is_asked_seldom_is_not_hot(room: House) -> None:
    asked(room, SLOW, times=19)
    assert list(hot_queries(room.probe)) == []


def test_what_is_quick_is_not_hot(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "SLOW_MS", 10_000.0)
    asked(room, SLOW)
    assert list(hot_queries(room.probe)) == []


def test_a_small_table_is_read_whole_for_good_reason(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(hot, "SLOW_MS", 0.0)
    asked(house, SLOW)
    assert house.value("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'things'") is not None
    house.run("DROP EXTENSION pg_stat_statements")
    assert list(hot_queries(house.probe)) == []


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
def test_every_kind_of_statement_is_planned_and_none_is_run(room: House, statement: str) -> None:
    asked(room, statement)
    before = room.run("SELECT count(*), sum(a) FROM things")
    (finding,) = hot_queries(room.probe)
    assert finding.evidence["table"] == "public.things"
    assert room.run("SELECT count(*), sum(a) FROM things") == before


@pytest.mark.parametrize(
    "text", ["VACUUM things", "SELECT interval $1", "SELECT $1 + things FROM nowhere", "", ";", "%s"]
)
def test_what_cannot_be_planned_is_no_trouble(room: House, text: str) -> None:
    assert plan_of(room.probe, text) == []
    assert room.probe.connection.exec_driver_sql("SHOW plan_cache_mode").scalar_one() == "auto"
    assert room.probe.connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one() == 0


def test_without_the_extension_it_cannot_judge(house: House) -> None:
    asked(house, SLOW)
    house.run("DROP EXTENSION pg_stat_statements")
    with pytest.raises(CannotJudge, match="pg_stat_statements is not installed"):
        list(hot_queries(house.probe))


def test_another_roles_statement_is_not_planned_with_our_rights(house: House, weak: Callable[[], None]) -> None:
    """Planning runs functions that are called immutable."""
    house.run(*TABLE, "CREATE TABLE planned (by text)", "GRANT SELECT ON things TO PUBLIC")
    house.run(
        "CREATE FUNCTION note() RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN RAISE NOTICE 'planned by %', current_user; RETURN 1; END $$"
    )
    weak()
    stranger = house.probe.connection
    run_on(stranger, *["SELECT /* x.evil */ count(*) FROM things WHERE a = note()"] * 20)
    run_on(stranger, "SELECT pg_stat_force_next_flush()")
    role = stranger.exec_driver_sql("SELECT current_user").scalar_one()
    house.probe.opened = house.open()
    (finding,) = hot_queries(house.probe)
    assert finding.level is Level.UNKNOWN
    assert f"x.evil of role {role} is slow" in finding.what
    assert house.probe.connection.connection.notices == []
    stranger.close()
