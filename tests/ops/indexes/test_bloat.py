"""Bloat: estimated, then measured; and what cannot be told."""

import pytest

from ops.checks.indexes import bloat as bloat_check
from ops.checks.indexes.bloat import COLUMNS, bloat, estimated
from ops.checks.indexes.reading import read
from ops.levels import Level
from tests.ops.conftest import eventually
from tests.ops.indexes.conftest import House, about, run_on

ROWS = 120_000
TABLE = (
    "CREATE TABLE things (id int, a uuid, b text) WITH (autovacuum_enabled = off)",
    f"INSERT INTO things SELECT n, md5(n::text)::uuid, 'word ' || n FROM generate_series(1, {ROWS}) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"


def hollow(house: House, gone: str = "id % 4 <> 0") -> None:
    """Delete rows here and there, so that every page keeps a few and vacuum can give none back.

    Vacuum is asked again while it leaves rows for somebody who may still see them, such as autovacuum in its work.
    """

    def is_clean() -> bool:
        house.run("VACUUM ANALYZE things", COUNTED)
        return bool(house.value("SELECT dead_tuple_count FROM pgstattuple('things')") == 0)

    house.run(f"DELETE FROM things WHERE {gone}", COUNTED)
    eventually(is_clean)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of ten megabytes takes its time to fill; a fifth of it is as good."""
    monkeypatch.setattr(bloat_check, "LEAST_BYTES", 2_000_000)


def test_a_full_index_is_not_bloated_and_a_hollow_one_is(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX things_id ON things (id)", COUNTED, "VACUUM ANALYZE things")
    assert list(bloat(room.probe)) == []
    hollow(room)
    (finding,) = bloat(room.probe)
    assert finding.level is Level.WARNING
    assert finding.evidence["measured"] is True
    assert 3 < finding.evidence["times_needed"] < 5
    room.run(str(finding.sql))
    assert list(bloat(room.probe)) == []


@pytest.mark.parametrize(
    "index",
    [
        "(id)",
        "(a)",
        "(b)",
        "(a, id)",
        "(lower(b))",
        "(id) WITH (fillfactor = 50)",
        "(id) INCLUDE (a)",
        "(id) WHERE id % 2 = 0",
    ],
)
def test_the_estimate_of_a_full_index_is_near_the_truth(room: House, index: str) -> None:
    room.run(*TABLE, f"CREATE INDEX it ON things {index}", COUNTED, "VACUUM ANALYZE things")
    (it,) = [each for each in read(room.probe).indexes if each.name == "it"]
    estimate = estimated(it, list(COLUMNS.all(room.probe.connection, {"oid": it.oid})))
    assert estimate is not None
    assert 0.8 < it.bytes / estimate.plain < 1.2


def test_equal_keys_are_kept_once_and_that_is_no_bloat(room: House) -> None:
    """By the size of its entries it would be a third of what it may be: hollow or not, only measuring tells."""
    room.run(*TABLE, "UPDATE things SET id = id % 100", "VACUUM FULL things", "CREATE INDEX it ON things (id)")
    room.run("ANALYZE things", COUNTED)
    bloat_check_least = room.value("SELECT pg_relation_size('it')")
    (it,) = [each for each in read(room.probe).indexes if each.name == "it"]
    estimate = estimated(it, list(COLUMNS.all(room.probe.connection, {"oid": it.oid})))
    assert estimate is not None
    assert estimate.deduplicated < bloat_check_least * 1.3 < estimate.plain
    assert list(bloat(room.probe)) == []


def test_a_hollow_index_of_equal_keys_is_found_all_the_same(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bloat_check, "LEAST_BYTES", 400_000)
    room.run(*TABLE, "UPDATE things SET id = id % 1000", "VACUUM FULL things", "CREATE INDEX it ON things (id)")
    hollow(room, "a::text > '3'")
    assert [finding.evidence["index"] for finding in bloat(room.probe)] == ["public.it"]


def test_without_statistics_it_cannot_be_told(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    (finding,) = bloat(room.probe)
    assert (finding.level, finding.sql) == (Level.UNKNOWN, "ANALYZE public.things;")
    room.run(str(finding.sql))
    assert list(bloat(room.probe)) == []


def test_with_stale_statistics_it_cannot_be_told(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED, "ANALYZE things")
    room.run("DELETE FROM things WHERE id % 2 = 0", COUNTED)
    (finding,) = bloat(room.probe)
    assert finding.level is Level.UNKNOWN


def test_dead_rows_are_no_bloat_before_they_are_vacuumed(room: House) -> None:
    """The estimate says so; measured, the entries are still there, and a rebuild would be for nothing."""
    room.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED, "ANALYZE things")
    reader = room.open()
    run_on(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM things LIMIT 1")
    room.run("DELETE FROM things WHERE id % 4 <> 0", COUNTED, "VACUUM ANALYZE things", COUNTED)
    assert list(bloat(room.probe)) == []
    run_on(reader, "ROLLBACK")


def test_without_the_extension_the_estimate_is_not_called_the_truth(house: House) -> None:
    house.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    hollow(house)
    house.run("DROP EXTENSION pgstattuple")
    (finding,) = bloat(house.probe)
    assert finding.level is Level.UNKNOWN
    assert "CREATE EXTENSION pgstattuple" in str(finding.remedy)
    assert finding.sql is None
    house.run("CREATE SCHEMA elsewhere", "CREATE EXTENSION pgstattuple SCHEMA elsewhere")
    (finding,) = bloat(house.probe)
    assert finding.evidence["measured"] is True


def test_one_that_is_too_large_to_be_read_is_named(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bloat_check, "MEASURED_BYTES", 1_000_000)
    room.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    hollow(room)
    (finding,) = bloat(room.probe)
    assert (finding.level, finding.evidence["measured"]) == (Level.UNKNOWN, False)


def test_other_kinds_of_index_are_not_estimated(room: House) -> None:
    room.run(*TABLE, "CREATE INDEX it ON things USING hash (a)", COUNTED)
    hollow(room)
    assert about(bloat(room.probe), "it") == []
