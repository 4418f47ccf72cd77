"""Unused indexes: what is one, what only looks like one, and when nobody can tell."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import psycopg2.extras
import pytest
from sqlalchemy import make_url

from ops.checks.indexes import unused as unused_check
from ops.checks.indexes.age import made_since
from ops.checks.indexes.reading import read
from ops.checks.indexes.unused import cases, is_idle, unused
from ops.findings import CannotJudge, Finding
from tests.ops.indexes.conftest import House

TABLE = (
    "CREATE TABLE parents (id int PRIMARY KEY)",
    "CREATE TABLE things (id int PRIMARY KEY, a int, b int, c text)",
    "INSERT INTO things SELECT n, n % 7, n % 7, n::text FROM generate_series(1, 2000) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes take their time to fill: here every index is large enough."""
    monkeypatch.setattr(unused_check, "LEAST_BYTES", 1)


def found(house: House, counted_for: timedelta = timedelta(0)) -> dict[str, Finding]:
    """What is found if that long a counting is enough."""
    findings = [case.finding for case in cases(house.probe, read(house.probe), counted_for=counted_for)]
    return {str(finding.evidence["index"]).removeprefix("public."): finding for finding in findings}


def test_an_index_that_nobody_scans_and_one_that_somebody_does(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX idle ON things (a)", "CREATE INDEX busy ON things (c)", "ANALYZE things")
    room.run("SELECT FROM things WHERE c = '77'", COUNTED)
    ours = set(found(room)) - {"idle"}
    assert "busy" not in ours
    finding = found(room)["idle"]
    assert finding.sql == "DROP INDEX CONCURRENTLY public.idle;"
    assert all(found(room)[name].sql is None for name in ours), "what the models declare is never planned to go"


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
def test_what_is_there_for_another_reason_is_left_alone(room: House, index: str) -> None:
    room.run(*TABLE, *index.split("; "))
    assert "it" not in found(room)


def test_of_two_that_serve_a_foreign_key_one_stays(room: House) -> None:
    room.run(*TABLE, "ALTER TABLE things ADD FOREIGN KEY (a) REFERENCES parents NOT VALID")
    room.run("CREATE INDEX one ON things (a)", "CREATE INDEX two ON things (a, c)")
    assert len({"one", "two"} & set(found(room))) == 1


def test_the_parts_of_a_partitioned_index_are_left_alone(room: House) -> None:
    room.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "INSERT INTO days SELECT 1, n FROM generate_series(1, 1000) AS n",
        "CREATE INDEX ON days (a)",
    )
    assert not {name for name in found(room) if name.startswith("days")}


def test_small_ones_do_not_matter(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    room.run(*TABLE, "CREATE INDEX idle ON things (a)")
    assert list(unused(room.probe)) == []


def test_young_statistics_cannot_judge(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX idle ON things (a)")
    with pytest.raises(CannotJudge, match="has been counting only since") as raised:
        list(unused(room.probe))
    assert str(raised.value.remedy).startswith("Ask again after 20")


def test_statistics_that_were_reset_cannot_judge(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX idle ON things (a)", "SELECT pg_stat_reset()")
    with pytest.raises(CannotJudge, match="counting only since"):
        list(unused(room.probe))


@contextmanager
def replica(house: House, **options: str) -> Iterator[None]:
    """A connection that receives what a replica receives."""
    url = make_url(house.url)
    connection = psycopg2.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        connection_factory=psycopg2.extras.PhysicalReplicationConnection,
    )  # fmt: skip
    with closing(connection), connection.cursor() as cursor:
        start = house.value("SELECT pg_current_wal_flush_lsn()")
        cursor.start_replication(start_lsn=start, **options)
        yield


def test_a_replica_that_reads_elsewhere_cannot_judge(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX idle ON things (a)")
    with replica(room), pytest.raises(CannotJudge, match="a replica counts for itself"):
        found(room)


def test_a_replica_that_is_away_is_not_forgotten(house: House) -> None:
    house.run(*TABLE, "CREATE INDEX idle ON things (a)", "SELECT pg_create_physical_replication_slot('away')")
    with pytest.raises(CannotJudge, match="a replica counts for itself"):
        found(house)
    house.run("SELECT pg_drop_replication_slot('away')")
    assert "idle" in found(house)


def test_without_a_candidate_replicas_do_not_matter(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with replica(room):
        assert list(unused(room.probe)) == []


def test_an_index_is_not_called_idle_for_what_was_long_before_it(house: House) -> None:
    """Counting may be years old and the index of today: the history of jobs tells which came first."""
    run = (
        "INSERT INTO job_runs (id, job, status, started_at, finished_at)"
        " VALUES (gen_random_uuid(), 'x.y', 'skipped', now(), now() - %(ago)s::interval)"
    )
    house.run(*TABLE)
    house.run(run, ago="20 days")
    house.run("CREATE INDEX old ON things (a)")
    house.run(run, ago="19 days")
    house.run(run, ago="0 days")
    house.run("CREATE INDEX young ON things (b)")
    indexes = {index.name: index for index in read(house.probe).indexes}
    moment = house.value("SELECT now() - interval '14 days'")
    assert made_since(house.probe, indexes["old"], moment) is False
    assert made_since(house.probe, indexes["young"], moment) is True
    findings = found(house, counted_for=timedelta(seconds=1))
    assert "young" not in findings
    assert findings["old"].evidence["older_than_that"] is True


def test_without_a_history_nothing_tells_how_old_it_is(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX idle ON things (a)")
    (index,) = [index for index in read(room.probe).indexes if index.name == "idle"]
    assert made_since(room.probe, index, NOW) is None
    assert "nothing tells how old it is" in str(found(room)["idle"].remedy)


def test_the_moment_of_the_last_scan_is_read_where_there_is_one(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX busy ON things (c)", "ANALYZE things", "SELECT FROM things WHERE c = '77'", COUNTED)
    (index,) = [index for index in read(room.probe).indexes if index.name == "busy"]
    assert index.scans == 1
    assert (index.last_scan is not None) is (room.probe.version >= 16)
    lately = replace(index, last_scan=NOW - timedelta(days=89))
    long_ago = replace(index, last_scan=NOW - timedelta(days=91))
    assert [is_idle(each, NOW) for each in (lately, long_ago, replace(index, last_scan=None))] == [False, True, False]
