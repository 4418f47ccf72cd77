"""Invalid indexes: broken ones, and those in progress."""

from collections.abc import Callable

import pytest

from ops.indexes.checks.expected import expected
from ops.indexes.checks.validity import invalid
from ops.levels import Level
from tests.ops.indexes.conftest import BUILDING, WAITING, IndexDatabase, open_transaction, running_statement
from tests.ops.installation import run_on
from tests.waiting import wait_until

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
def test_index_in_progress_is_not_broken(shared_database: IndexDatabase, work: str, until: str) -> None:
    shared_database.run(*TABLE)
    with open_transaction(shared_database, WRITER), running_statement(shared_database, work, until):
        assert shared_database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
        assert list(invalid(shared_database.context)) == []


def test_reindexed_table_is_not_broken(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    with (
        open_transaction(shared_database, WRITER),
        running_statement(shared_database, "REINDEX TABLE CONCURRENTLY things", BUILDING),
    ):
        assert shared_database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") >= 2
        assert list(invalid(shared_database.context)) == []


def test_hidden_build_is_recognized_by_its_lock(database: IndexDatabase, drop_privileges: Callable[[], None]) -> None:
    database.run(*TABLE)
    with open_transaction(database, WRITER), running_statement(database, BUILD, BUILDING):
        drop_privileges()
        assert list(invalid(database.context)) == []


@pytest.mark.parametrize("privileged", [True, False])
def test_killed_build_is_broken(database: IndexDatabase, drop_privileges: Callable[[], None], privileged: bool) -> None:
    database.run(*TABLE)
    with open_transaction(database, WRITER), running_statement(database, BUILD, BUILDING) as work:
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        assert "terminat" in str(work.end())
    if not privileged:
        drop_privileges()
    (finding,) = invalid(database.context)
    assert finding.level is Level.WARNING
    assert finding.evidence["index"] == "public.things_b"
    assert finding.sql == "REINDEX INDEX CONCURRENTLY public.things_b;"
    database.run(finding.sql)
    assert list(invalid(database.context)) == []


def test_other_build_on_the_table_does_not_hide_a_broken_index(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    interrupt(shared_database, BUILD, BUILDING)
    with (
        open_transaction(shared_database, WRITER),
        running_statement(shared_database, "CREATE INDEX CONCURRENTLY things_c ON things (a, b)", BUILDING),
    ):
        (finding,) = invalid(shared_database.context)
    assert finding.evidence["index"] == "public.things_b"


def test_copy_of_a_rebuild_is_dropped(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    interrupt(shared_database, REBUILD, BUILDING)
    (finding,) = invalid(shared_database.context)
    assert finding.level is Level.WARNING
    assert finding.sql == "DROP INDEX CONCURRENTLY public.things_a_ccnew;"
    assert "left behind by a failed REINDEX CONCURRENTLY of public.things_a" in finding.message
    shared_database.run(finding.sql)
    assert list(invalid(shared_database.context)) == []


def test_second_copy_with_a_cut_name_is_recognized(shared_database: IndexDatabase) -> None:
    name = "things_" + "x" * 56
    shared_database.run(*TABLE, f"CREATE INDEX {name} ON things (b)")
    for _ in range(2):
        interrupt(shared_database, f"REINDEX INDEX CONCURRENTLY {name}", BUILDING)
    findings = list(invalid(shared_database.context))
    assert [finding.sql for finding in findings if finding.sql and finding.sql.startswith("DROP")] == [
        finding.sql for finding in findings
    ]
    assert len(findings) == 2


def test_copy_of_a_toast_rebuild_is_recognized(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    toast = shared_database.value("SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'things'")
    large = "INSERT INTO things SELECT 0, 0, string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n"
    interrupt(shared_database, f"REINDEX TABLE CONCURRENTLY {toast}", BUILDING, blocker=large)
    (finding,) = invalid(shared_database.context)
    assert finding.sql == f"DROP INDEX CONCURRENTLY {toast}_index_ccnew;"
    shared_database.run(finding.sql)
    assert list(invalid(shared_database.context)) == []


@pytest.mark.parametrize(
    "made",
    [
        "CREATE INDEX CONCURRENTLY things_a_ccnew ON things (b)",  # not the columns of things_a
        "CREATE INDEX CONCURRENTLY nothing_ccnew ON things (a)",  # of no existing index
        "CREATE UNIQUE INDEX CONCURRENTLY things_a_ccnew ON things (a)",  # unique, which things_a is not
        "CREATE INDEX CONCURRENTLY things_a_ccnewer ON things (a)",
    ],
)
def test_name_alone_does_not_make_a_copy(shared_database: IndexDatabase, made: str) -> None:
    shared_database.run(*TABLE)
    interrupt(shared_database, made, BUILDING)
    (finding,) = invalid(shared_database.context)
    assert "copy" not in finding.message
    if "UNIQUE" in made:  # duplicates may have stopped it, so that is for the operator to decide
        assert "?" in str(finding.remedy)
    else:
        assert str(finding.sql).startswith("REINDEX INDEX CONCURRENTLY ")


def test_valid_index_with_a_copy_name_is_ignored(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX things_a_ccnew ON things (a)")
    assert list(invalid(shared_database.context)) == []


def test_failed_unique_build_is_critical(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "UPDATE things SET a = 1")
    with pytest.raises(Exception, match="duplicated"):
        shared_database.run("CREATE UNIQUE INDEX CONCURRENTLY things_once ON things (a)")
    (finding,) = invalid(shared_database.context)
    assert finding.level is Level.CRITICAL


def test_invalid_declared_index_is_critical_in_both_checks(database: IndexDatabase) -> None:
    database.run("DROP INDEX ix_turns_conversation")
    interrupt(
        database,
        "CREATE INDEX CONCURRENTLY ix_turns_conversation ON turns (user_id, conversation_id)",
        BUILDING,
        blocker="LOCK TABLE turns IN ROW EXCLUSIVE MODE",
    )
    for check in (invalid, expected):
        (finding,) = check(database.context)
        assert finding.level is Level.CRITICAL
        assert finding.sql == "REINDEX INDEX CONCURRENTLY public.ix_turns_conversation;"


def test_early_interrupted_drop_is_rebuilt(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    interrupt(shared_database, DROP, WAITING)
    (finding,) = invalid(shared_database.context)
    assert finding.evidence["live"] is True
    assert finding.sql == "REINDEX INDEX CONCURRENTLY public.things_a;"
    shared_database.run(finding.sql)
    assert list(invalid(shared_database.context)) == []


def test_late_interrupted_drop_needs_a_decision(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    # The drop waits twice: for users of the index, then for older transactions.
    late = "SELECT count(*) FROM things"
    with (
        open_transaction(shared_database, WRITER) as writer,
        running_statement(shared_database, DROP, WAITING) as work,
        open_transaction(shared_database, late),
    ):
        run_on(writer, "ROLLBACK")
        wait_until(lambda: shared_database.value("SELECT count(*) FROM pg_index WHERE NOT indislive") == 1)
        shared_database.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
    (finding,) = invalid(shared_database.context)
    assert finding.evidence["live"] is False
    assert "no plan includes it" in str(finding.remedy)
    shared_database.run(str(finding.sql))
    assert list(invalid(shared_database.context)) == []


def test_partitioned_index_without_partitions_is_invalid(shared_database: IndexDatabase) -> None:
    shared_database.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "CREATE INDEX days_a ON ONLY days (a)",
    )
    (finding,) = invalid(shared_database.context)
    assert finding.sql is None
    assert "ATTACH PARTITION" in str(finding.remedy)
    shared_database.run("CREATE INDEX days_1_a ON days_1 (a)", "ALTER INDEX days_a ATTACH PARTITION days_1_a")
    assert list(invalid(shared_database.context)) == []


def interrupt(database: IndexDatabase, statement: str, until: str, blocker: str = WRITER) -> None:
    """Start `statement` while a transaction blocks it, and kill its session."""
    with open_transaction(database, blocker), running_statement(database, statement, until) as work:
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
