"""Indexes that are not valid: broken ones, and those that somebody is at work on."""

from collections.abc import Callable

import pytest

from ops.checks.indexes.expected import expected
from ops.checks.indexes.validity import invalid
from ops.levels import Level
from tests.ops.conftest import eventually
from tests.ops.indexes.conftest import BUILDING, WAITING, House, holding, run_on, working

TABLE = (
    "CREATE TABLE things (id int PRIMARY KEY, a int, b text)",
    "INSERT INTO things SELECT n, n, n::text FROM generate_series(1, 1000) AS n",
    "CREATE INDEX things_a ON things (a)",
)
WRITER = "INSERT INTO things VALUES (0, 0, '')"
BUILD = "CREATE INDEX CONCURRENTLY things_b ON things (b)"
REBUILD = "REINDEX INDEX CONCURRENTLY things_a"
DROP = "DROP INDEX CONCURRENTLY things_a"


@pytest.mark.parametrize(("work", "until"), [(BUILD, BUILDING), (REBUILD, BUILDING), (DROP, WAITING)])
def test_what_somebody_is_at_work_on_is_not_broken(room: House, work: str, until: str) -> None:
    room.run(*TABLE)
    with holding(room, WRITER), working(room, work, until):
        assert room.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
        assert list(invalid(room.probe)) == []


def test_a_whole_table_that_is_rebuilt_is_not_broken(room: House) -> None:
    room.run(*TABLE)
    with holding(room, WRITER), working(room, "REINDEX TABLE CONCURRENTLY things", BUILDING):
        assert room.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") >= 2
        assert list(invalid(room.probe)) == []


def test_a_role_that_may_not_see_the_build_sees_that_there_is_one(house: House, weak: Callable[[], None]) -> None:
    house.run(*TABLE)
    with holding(house, WRITER), working(house, BUILD, BUILDING):
        weak()
        assert list(invalid(house.probe)) == []


@pytest.mark.parametrize("privileged", [True, False])
def test_a_build_whose_session_was_killed_is_broken(house: House, weak: Callable[[], None], privileged: bool) -> None:
    house.run(*TABLE)
    with holding(house, WRITER), working(house, BUILD, BUILDING) as work:
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        assert "terminat" in str(work.end())
    if not privileged:
        weak()
    (finding,) = invalid(house.probe)
    assert finding.level is Level.WARNING
    assert finding.evidence["index"] == "public.things_b"
    assert finding.sql == "REINDEX INDEX CONCURRENTLY public.things_b;"
    house.run(finding.sql)
    assert list(invalid(house.probe)) == []


def test_another_build_on_the_same_table_does_not_hide_a_broken_one(room: House) -> None:
    room.run(*TABLE)
    broken(room, BUILD, BUILDING)
    with holding(room, WRITER), working(room, "CREATE INDEX CONCURRENTLY things_c ON things (a, b)", BUILDING):
        (finding,) = invalid(room.probe)
    assert finding.evidence["index"] == "public.things_b"


def test_what_a_rebuild_left_behind_is_to_be_dropped_and_nothing_else(room: House) -> None:
    room.run(*TABLE)
    broken(room, REBUILD, BUILDING)
    (finding,) = invalid(room.probe)
    assert finding.level is Level.WARNING
    assert finding.sql == "DROP INDEX CONCURRENTLY public.things_a_ccnew;"
    assert "REINDEX CONCURRENTLY of public.things_a left behind" in finding.what
    room.run(finding.sql)
    assert list(invalid(room.probe)) == []


def test_the_second_leftover_of_a_long_name_is_known_too(room: House) -> None:
    name = "things_" + "x" * 56
    room.run(*TABLE, f"CREATE INDEX {name} ON things (b)")
    for _ in range(2):
        broken(room, f"REINDEX INDEX CONCURRENTLY {name}", BUILDING)
    findings = list(invalid(room.probe))
    assert [finding.sql for finding in findings if finding.sql and finding.sql.startswith("DROP")] == [
        finding.sql for finding in findings
    ]
    assert len(findings) == 2


def test_what_a_rebuild_of_a_toast_table_left_behind_is_known(room: House) -> None:
    room.run(*TABLE)
    toast = room.value("SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'things'")
    large = "INSERT INTO things SELECT 0, 0, string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n"
    broken(room, f"REINDEX TABLE CONCURRENTLY {toast}", BUILDING, block=large)
    (finding,) = invalid(room.probe)
    assert finding.sql == f"DROP INDEX CONCURRENTLY {toast}_index_ccnew;"
    room.run(finding.sql)
    assert list(invalid(room.probe)) == []


@pytest.mark.parametrize(
    "made",
    [
        "CREATE INDEX CONCURRENTLY things_a_ccnew ON things (b)",  # not the columns of things_a
        "CREATE INDEX CONCURRENTLY nothing_ccnew ON things (a)",  # of no index that is there
        "CREATE UNIQUE INDEX CONCURRENTLY things_a_ccnew ON things (a)",  # a rule that things_a is not
        "CREATE INDEX CONCURRENTLY things_a_ccnewer ON things (a)",
    ],
)
def test_a_name_alone_proves_nothing(room: House, made: str) -> None:
    room.run(*TABLE)
    broken(room, made, BUILDING)
    (finding,) = invalid(room.probe)
    assert finding.sql is not None
    assert finding.sql.startswith("REINDEX INDEX CONCURRENTLY ")


def test_a_valid_index_with_such_a_name_is_left_alone(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX things_a_ccnew ON things (a)")
    assert list(invalid(room.probe)) == []


def test_duplicates_break_a_unique_build_and_that_is_critical(room: House) -> None:
    room.run(*TABLE, "UPDATE things SET a = 1")
    with pytest.raises(Exception, match="duplicated"):
        room.run("CREATE UNIQUE INDEX CONCURRENTLY things_once ON things (a)")
    (finding,) = invalid(room.probe)
    assert finding.level is Level.CRITICAL


def test_one_that_we_declare_is_critical_for_both_checks(house: House) -> None:
    house.run("DROP INDEX ix_turns_conversation")
    broken(
        house,
        "CREATE INDEX CONCURRENTLY ix_turns_conversation ON turns (user_id, conversation_id)",
        BUILDING,
        block="LOCK TABLE turns IN ROW EXCLUSIVE MODE",
    )
    for check in (invalid, expected):
        (finding,) = check(house.probe)
        assert finding.level is Level.CRITICAL
        assert finding.sql == "REINDEX INDEX CONCURRENTLY public.ix_turns_conversation;"


def test_a_drop_that_was_cut_off_early_can_be_taken_back(room: House) -> None:
    room.run(*TABLE)
    broken(room, DROP, WAITING)
    (finding,) = invalid(room.probe)
    assert finding.evidence["live"] is True
    assert finding.sql == "REINDEX INDEX CONCURRENTLY public.things_a;"
    room.run(finding.sql)
    assert list(invalid(room.probe)) == []


def test_a_drop_that_was_cut_off_late_is_left_to_a_person(room: House) -> None:
    room.run(*TABLE)
    # It waits twice: for those who may still use the index, then for those who came before the others had gone.
    late = "SELECT count(*) FROM things"
    with holding(room, WRITER) as writer, working(room, DROP, WAITING) as work, holding(room, late):
        run_on(writer, "ROLLBACK")
        eventually(lambda: room.value("SELECT count(*) FROM pg_index WHERE NOT indislive") == 1)
        room.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
    (finding,) = invalid(room.probe)
    assert finding.evidence["live"] is False
    assert "no plan drops it" in str(finding.remedy)
    room.run(str(finding.sql))
    assert list(invalid(room.probe)) == []


def test_a_partitioned_index_waits_for_its_partitions(room: House) -> None:
    room.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "CREATE INDEX days_a ON ONLY days (a)",
    )
    (finding,) = invalid(room.probe)
    assert finding.sql is None
    assert "ATTACH PARTITION" in str(finding.remedy)
    room.run("CREATE INDEX days_1_a ON days_1 (a)", "ALTER INDEX days_a ATTACH PARTITION days_1_a")
    assert list(invalid(room.probe)) == []


def broken(house: House, statement: str, until: str, block: str = WRITER) -> None:
    """Begin `statement` while a transaction keeps it from its end, and kill its session."""
    with holding(house, block), working(house, statement, until) as work:
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
