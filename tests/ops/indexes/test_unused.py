"""Unused indexes: real ones, exceptions, and unknown states."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import psycopg2.extras
import pytest
from sqlalchemy import make_url

from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.indexes.age import created_since
from ops.indexes.checks import unused as unused_check
from ops.indexes.checks.unused import index_findings, is_idle, unused
from ops.indexes.snapshot import read_indexes
from tests.ops.indexes.conftest import IndexDatabase

TABLE = (
    "CREATE TABLE parents (id int PRIMARY KEY)",
    "CREATE TABLE things (id int PRIMARY KEY, a int, b int, c text)",
    "INSERT INTO things SELECT n, n % 7, n % 7, n::text FROM generate_series(1, 2000) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the minimum size: filling ten megabytes takes too long."""
    monkeypatch.setattr(unused_check, "MIN_BYTES", 1)


def findings_by_index(database: IndexDatabase, counted_for: timedelta = timedelta(0)) -> dict[str, Finding]:
    """Return the findings by index, with another minimum age of the statistics."""
    findings = [
        findings_by_index.finding
        for findings_by_index in index_findings(
            database.context, read_indexes(database.context), counted_for=counted_for
        )
    ]
    return {str(finding.evidence["index"]).removeprefix("public."): finding for finding in findings}


def test_unscanned_index_is_found(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)", "CREATE INDEX busy ON things (c)", "ANALYZE things")
    shared_database.run("SELECT FROM things WHERE c = '77'", COUNTED)
    ours = set(findings_by_index(shared_database)) - {"idle"}
    assert "busy" not in ours
    finding = findings_by_index(shared_database)["idle"]
    assert finding.sql == "DROP INDEX CONCURRENTLY public.idle;"
    assert all(findings_by_index(shared_database)[name].sql is None for name in ours), (
        "what the models declare is never planned to go"
    )


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX it ON things (id, a)",
        "ALTER TABLE things ADD CONSTRAINT it UNIQUE (c)",
        "ALTER TABLE things ADD CONSTRAINT it EXCLUDE USING btree (c WITH =)",
        "CREATE INDEX it ON things (a); CLUSTER things USING it",
        "CREATE INDEX it ON things (a); ALTER TABLE things ADD FOREIGN KEY (a) REFERENCES parents NOT VALID",
        "CREATE UNIQUE INDEX it ON things (id); ALTER TABLE things REPLICA IDENTITY USING INDEX it",
    ],
)
def test_index_needed_for_more_than_queries_is_ignored(shared_database: IndexDatabase, index: str) -> None:
    shared_database.run(*TABLE, *index.split("; "))
    assert "it" not in findings_by_index(shared_database)


def test_one_of_two_indexes_of_a_foreign_key_is_kept(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "ALTER TABLE things ADD FOREIGN KEY (a) REFERENCES parents NOT VALID")
    shared_database.run("CREATE INDEX one ON things (a)", "CREATE INDEX two ON things (a, c)")
    assert len({"one", "two"} & set(findings_by_index(shared_database))) == 1


def test_partitions_of_an_index_are_ignored(shared_database: IndexDatabase) -> None:
    shared_database.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "INSERT INTO days SELECT 1, n FROM generate_series(1, 1000) AS n",
        "CREATE INDEX ON days (a)",
    )
    assert not {name for name in findings_by_index(shared_database) if name.startswith("days")}


def test_small_index_is_ignored(shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)")
    assert list(unused(shared_database.context)) == []


def test_young_statistics_are_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)")
    with pytest.raises(UnknownState, match="statistics begin only at") as raised:
        list(unused(shared_database.context))
    assert str(raised.value.remedy).startswith("Check again after 20")


def test_reset_statistics_are_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)", "SELECT pg_stat_reset()")
    with pytest.raises(UnknownState, match="statistics begin only at"):
        list(unused(shared_database.context))


@contextmanager
def replica(database: IndexDatabase, **options: str) -> Iterator[None]:
    """Open a replication connection, as a replica does."""
    url = make_url(database.url)
    connection = psycopg2.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        connection_factory=psycopg2.extras.PhysicalReplicationConnection,
    )  # fmt: skip
    with closing(connection), connection.cursor() as cursor:
        start = database.value("SELECT pg_current_wal_flush_lsn()")
        cursor.start_replication(start_lsn=start, **options)
        yield


def test_replica_without_url_is_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)")
    with replica(shared_database), pytest.raises(UnknownState, match="a replica has its own statistics"):
        findings_by_index(shared_database)


def test_disconnected_replica_is_unknown(database: IndexDatabase) -> None:
    database.run(*TABLE, "CREATE INDEX idle ON things (a)", "SELECT pg_create_physical_replication_slot('away')")
    with pytest.raises(UnknownState, match="a replica has its own statistics"):
        findings_by_index(database)
    database.run("SELECT pg_drop_replication_slot('away')")
    assert "idle" in findings_by_index(database)


def test_replica_without_a_candidate_is_ignored(
    shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with replica(shared_database):
        assert list(unused(shared_database.context)) == []


def test_new_index_is_not_unused(database: IndexDatabase) -> None:
    """The statistics may be older than the index: the history of jobs shows that."""
    run = (
        "INSERT INTO job_runs (id, job, status, started_at, finished_at)"
        " VALUES (gen_random_uuid(), 'x.y', 'skipped', now(), now() - %(ago)s::interval)"
    )
    database.run(*TABLE)
    database.run(run, ago="20 days")
    database.run("CREATE INDEX old ON things (a)")
    database.run(run, ago="19 days")
    database.run(run, ago="0 days")
    database.run("CREATE INDEX young ON things (b)")
    indexes = {index.name: index for index in read_indexes(database.context).indexes}
    moment = database.value("SELECT now() - interval '14 days'")
    assert created_since(database.context, indexes["old"], moment) is False
    assert created_since(database.context, indexes["young"], moment) is True
    findings = findings_by_index(database, counted_for=timedelta(seconds=1))
    assert "young" not in findings
    assert findings["old"].evidence["older_than_that"] is True


def test_age_without_a_history_is_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX idle ON things (a)")
    (index,) = [index for index in read_indexes(shared_database.context).indexes if index.name == "idle"]
    assert created_since(shared_database.context, index, NOW) is None
    assert "Its age is unknown" in str(findings_by_index(shared_database)["idle"].remedy)


def test_last_scan_is_used_where_recorded(shared_database: IndexDatabase) -> None:
    shared_database.run(
        *TABLE, "CREATE INDEX busy ON things (c)", "ANALYZE things", "SELECT FROM things WHERE c = '77'", COUNTED
    )
    (index,) = [index for index in read_indexes(shared_database.context).indexes if index.name == "busy"]
    assert index.scans == 1
    assert (index.last_scan is not None) is (shared_database.context.version >= 16)
    lately = replace(index, last_scan=NOW - timedelta(days=89))
    long_ago = replace(index, last_scan=NOW - timedelta(days=91))
    assert [is_idle(each, NOW) for each in (lately, long_ago, replace(index, last_scan=None))] == [False, True, False]
