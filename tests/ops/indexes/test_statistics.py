"""What the planner knows, and since when PostgreSQL has been counting."""

import pytest

from ops.checks.statistics import statistics
from ops.checks.statistics_age import counting_since
from ops.findings import CannotJudge
from ops.levels import Level
from tests.ops.indexes.conftest import House, about, run_on

TABLE = (
    "CREATE TABLE things (id int, a int) WITH (autovacuum_enabled = off)",
    "INSERT INTO things SELECT n, n FROM generate_series(1, 4000) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"


def test_a_database_that_was_never_reset_counts_since_its_server_does(house: House) -> None:
    assert house.value("SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()") is None
    since = counting_since(house.probe)
    assert since == house.value("SELECT stats_reset FROM pg_stat_bgwriter")
    assert since <= house.value("SELECT now()")


def test_a_reset_begins_anew(house: House) -> None:
    before = house.value("SELECT now()")
    house.run("SELECT pg_stat_reset()")
    assert counting_since(house.probe) >= before


def test_resetting_one_table_begins_anew_too(house: House) -> None:
    before = house.value("SELECT now()")
    house.run("SELECT pg_stat_reset_single_table_counters('users'::regclass)")
    assert counting_since(house.probe) >= before


def test_without_counting_nothing_is_known(house: House) -> None:
    run_on(house.probe.connection, "SET track_counts = off")
    with pytest.raises(CannotJudge, match="track_counts"):
        counting_since(house.probe)


def test_a_table_that_was_never_analyzed(room: House) -> None:
    room.run(*TABLE, COUNTED)
    assert room.value("SELECT reltuples FROM pg_class WHERE relname = 'things'") == -1
    (finding,) = statistics(room.probe)
    assert finding.level is Level.WARNING
    assert "never analyzed" in finding.what
    assert "told to leave it alone" in str(finding.remedy)
    room.run(str(finding.sql))
    assert list(statistics(room.probe)) == []


def test_what_changed_is_held_against_all_that_is_there_also_when_the_counts_are_lost(house: House) -> None:
    house.run(*TABLE, COUNTED, "ANALYZE things", COUNTED, "SELECT pg_stat_reset()")
    house.run("INSERT INTO things SELECT n, n FROM generate_series(1, 1000) AS n", COUNTED)
    assert [finding for finding in statistics(house.probe) if "changed since" in finding.what] == []
    house.run("INSERT INTO things SELECT n, n FROM generate_series(1, 100) AS n", COUNTED)
    assert house.value("SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'things'") < 4000
    (finding,) = about(statistics(house.probe), "changed since")
    assert "28%" in finding.what


def test_columns_that_nobody_may_look_at(room: House) -> None:
    room.run(
        *TABLE, "ALTER TABLE things ALTER a SET STATISTICS 0, ALTER id SET STATISTICS 0", "ANALYZE things", COUNTED
    )
    (finding,) = about(statistics(room.probe), "ANALYZE is told")
    assert finding.evidence["columns"] == ["id", "a"]
    room.run(*str(finding.sql).split("\n"), COUNTED)
    assert list(statistics(room.probe)) == []


@pytest.mark.parametrize(("changed", "told"), [(1000, False), (1001, True)])
def test_a_quarter_that_changed(room: House, changed: int, told: bool) -> None:
    room.run(*TABLE, COUNTED, "ANALYZE things", f"UPDATE things SET a = 0 WHERE id <= {changed}", COUNTED)
    findings = list(statistics(room.probe))
    assert bool(findings) is told
    assert all(finding.evidence["changed"] == changed for finding in findings)


def test_small_tables_do_not_matter(room: House) -> None:
    room.run(TABLE[0], "INSERT INTO things SELECT n FROM generate_series(1, 900) AS n", COUNTED)
    assert list(statistics(room.probe)) == []


def test_a_large_table_whose_changes_were_forgotten(room: House) -> None:
    room.run(TABLE[0], "INSERT INTO things SELECT n FROM generate_series(1, 300000) AS n", COUNTED, "ANALYZE things")
    assert list(statistics(room.probe)) == []
    room.run("SELECT pg_stat_reset()")
    (finding,) = statistics(room.probe)
    assert finding.level is Level.UNKNOWN
    room.run(str(finding.sql), COUNTED)
    assert list(statistics(room.probe)) == []


def test_a_locked_table_is_waited_for_by_nobody(house: House) -> None:
    house.run(*TABLE, COUNTED)
    holder = house.open()
    run_on(holder, "BEGIN", "LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
    run_on(house.probe.connection, "SET lock_timeout = '10ms'")
    assert about(statistics(house.probe), "things") == []
    run_on(holder, "ROLLBACK")
    assert len(about(statistics(house.probe), "things")) == 1
