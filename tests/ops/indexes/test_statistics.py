"""The planner's statistics, and the start of the counters."""

import pytest

from ops.checks.statistics_age import counting_since
from ops.errors import UnknownState
from ops.indexes.checks.statistics import statistics
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase, findings_about
from tests.ops.installation import run_on

TABLE = (
    "CREATE TABLE things (id int, a int) WITH (autovacuum_enabled = off)",
    "INSERT INTO things SELECT n, n FROM generate_series(1, 4000) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"


def test_statistics_without_a_reset_begin_with_the_server(database: IndexDatabase) -> None:
    assert database.value("SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()") is None
    since = counting_since(database.context)
    assert since == database.value("SELECT stats_reset FROM pg_stat_bgwriter")
    assert since <= database.value("SELECT now()")


def test_reset_restarts_the_statistics(database: IndexDatabase) -> None:
    before = database.value("SELECT now()")
    database.run("SELECT pg_stat_reset()")
    assert counting_since(database.context) >= before


def test_reset_of_one_table_restarts_the_statistics(database: IndexDatabase) -> None:
    before = database.value("SELECT now()")
    database.run("SELECT pg_stat_reset_single_table_counters('users'::regclass)")
    assert counting_since(database.context) >= before


def test_disabled_counting_is_unknown(database: IndexDatabase) -> None:
    run_on(database.context.connection, "SET track_counts = off")
    with pytest.raises(UnknownState, match="track_counts"):
        counting_since(database.context)


def test_unanalyzed_table_is_found(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, COUNTED)
    assert shared_database.value("SELECT reltuples FROM pg_class WHERE relname = 'things'") == -1
    (finding,) = statistics(shared_database.context)
    assert finding.level is Level.WARNING
    assert "never analyzed" in finding.message
    assert "Is autovacuum disabled on purpose?" in str(finding.remedy)
    shared_database.run(str(finding.sql))
    assert list(statistics(shared_database.context)) == []


def test_changes_are_compared_with_all_rows_even_after_a_reset(database: IndexDatabase) -> None:
    database.run(*TABLE, COUNTED, "ANALYZE things", COUNTED, "SELECT pg_stat_reset()")
    database.run("INSERT INTO things SELECT n, n FROM generate_series(1, 1000) AS n", COUNTED)
    assert [finding for finding in statistics(database.context) if "changed since" in finding.message] == []
    database.run("INSERT INTO things SELECT n, n FROM generate_series(1, 100) AS n", COUNTED)
    assert database.value("SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'things'") < 4000
    (finding,) = findings_about(statistics(database.context), "changed since")
    assert "28%" in finding.message


def test_columns_without_statistics_target_are_found(shared_database: IndexDatabase) -> None:
    shared_database.run(
        *TABLE, "ALTER TABLE things ALTER a SET STATISTICS 0, ALTER id SET STATISTICS 0", "ANALYZE things", COUNTED
    )
    (finding,) = findings_about(statistics(shared_database.context), "The statistics target")
    assert finding.evidence["columns"] == ["id", "a"]
    shared_database.run(*str(finding.sql).split("\n"), COUNTED)
    assert list(statistics(shared_database.context)) == []


@pytest.mark.parametrize(("changed", "is_reported"), [(1000, False), (1001, True)])
def test_quarter_of_changed_rows_is_found(shared_database: IndexDatabase, changed: int, is_reported: bool) -> None:
    shared_database.run(*TABLE, COUNTED, "ANALYZE things", f"UPDATE things SET a = 0 WHERE id <= {changed}", COUNTED)
    findings = list(statistics(shared_database.context))
    assert bool(findings) is is_reported
    assert all(finding.evidence["changed"] == changed for finding in findings)


def test_small_table_is_ignored(shared_database: IndexDatabase) -> None:
    shared_database.run(TABLE[0], "INSERT INTO things SELECT n FROM generate_series(1, 900) AS n", COUNTED)
    assert list(statistics(shared_database.context)) == []


def test_large_table_with_lost_counters_is_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(
        TABLE[0], "INSERT INTO things SELECT n FROM generate_series(1, 300000) AS n", COUNTED, "ANALYZE things"
    )
    assert list(statistics(shared_database.context)) == []
    shared_database.run("SELECT pg_stat_reset()")
    (finding,) = statistics(shared_database.context)
    assert finding.level is Level.UNKNOWN
    shared_database.run(str(finding.sql), COUNTED)
    assert list(statistics(shared_database.context)) == []


def test_checks_do_not_wait_for_a_locked_table(database: IndexDatabase) -> None:
    database.run(*TABLE, COUNTED)
    holder = database.open()
    run_on(holder, "BEGIN", "LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
    run_on(database.context.connection, "SET lock_timeout = '10ms'")
    assert findings_about(statistics(database.context), "things") == []
    run_on(holder, "ROLLBACK")
    assert len(findings_about(statistics(database.context), "things")) == 1
