"""Bloat: the estimate, the measurement, and unknown states."""

import pytest

from ops.indexes.checks import bloat as bloat_check
from ops.indexes.checks.bloat import COLUMNS, bloat, estimated
from ops.indexes.snapshot import read_indexes
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase, findings_about
from tests.ops.installation import run_on
from tests.waiting import wait_until

ROWS = 120_000
TABLE = (
    "CREATE TABLE things (id int, a uuid, b text) WITH (autovacuum_enabled = off)",
    f"INSERT INTO things SELECT n, md5(n::text)::uuid, 'word ' || n FROM generate_series(1, {ROWS}) AS n",
)
COUNTED = "SELECT pg_stat_force_next_flush()"


def bloated_index(database: IndexDatabase, gone: str = "id % 4 <> 0") -> None:
    """Delete rows here and there, so that every page keeps a few and vacuum can give none back.

    Vacuum is repeated while it keeps rows that another snapshot may see, such as that of autovacuum.
    """

    def is_clean() -> bool:
        database.run("VACUUM ANALYZE things", COUNTED)
        return bool(database.value("SELECT dead_tuple_count FROM pgstattuple('things')") == 0)

    database.run(f"DELETE FROM things WHERE {gone}", COUNTED)
    wait_until(is_clean)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the minimum size: filling ten megabytes takes too long."""
    monkeypatch.setattr(bloat_check, "MIN_BYTES", 2_000_000)


def test_only_an_index_with_free_space_is_bloated(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX things_id ON things (id)", COUNTED, "VACUUM ANALYZE things")
    assert list(bloat(shared_database.context)) == []
    bloated_index(shared_database)
    (finding,) = bloat(shared_database.context)
    assert finding.level is Level.WARNING
    assert finding.evidence["measured"] is True
    assert 3 < finding.evidence["times_needed"] < 5
    shared_database.run(str(finding.sql))
    assert list(bloat(shared_database.context)) == []


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
def test_estimate_of_a_full_index_is_close(shared_database: IndexDatabase, index: str) -> None:
    shared_database.run(*TABLE, f"CREATE INDEX it ON things {index}", COUNTED, "VACUUM ANALYZE things")
    (it,) = [index for index in read_indexes(shared_database.context).indexes if index.name == "it"]
    estimate = estimated(it, list(COLUMNS.all(shared_database.context.connection, {"oid": it.oid})))
    assert estimate is not None
    assert 0.8 < it.bytes / estimate.plain < 1.2


def test_deduplicated_index_is_not_bloated(shared_database: IndexDatabase) -> None:
    """Its size is between the two estimates, so it is measured."""
    shared_database.run(
        *TABLE, "UPDATE things SET id = id % 100", "VACUUM FULL things", "CREATE INDEX it ON things (id)"
    )
    shared_database.run("ANALYZE things", COUNTED)
    bloat_check_least = shared_database.value("SELECT pg_relation_size('it')")
    (it,) = [index for index in read_indexes(shared_database.context).indexes if index.name == "it"]
    estimate = estimated(it, list(COLUMNS.all(shared_database.context.connection, {"oid": it.oid})))
    assert estimate is not None
    assert estimate.deduplicated < bloat_check_least * 1.3 < estimate.plain
    assert list(bloat(shared_database.context)) == []


def test_bloat_of_a_deduplicated_index_is_found(
    shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bloat_check, "MIN_BYTES", 400_000)
    shared_database.run(
        *TABLE, "UPDATE things SET id = id % 1000", "VACUUM FULL things", "CREATE INDEX it ON things (id)"
    )
    bloated_index(shared_database, "a::text > '3'")
    assert [finding.evidence["index"] for finding in bloat(shared_database.context)] == ["public.it"]


def test_bloat_without_statistics_is_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    (finding,) = bloat(shared_database.context)
    assert (finding.level, finding.sql) == (Level.UNKNOWN, "ANALYZE public.things;")
    shared_database.run(str(finding.sql))
    assert list(bloat(shared_database.context)) == []


def test_bloat_with_outdated_statistics_is_unknown(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED, "ANALYZE things")
    shared_database.run("DELETE FROM things WHERE id % 2 = 0", COUNTED)
    (finding,) = bloat(shared_database.context)
    assert finding.level is Level.UNKNOWN


def test_dead_rows_before_vacuum_are_not_bloat(shared_database: IndexDatabase) -> None:
    """The estimate suspects bloat, but the entries of dead rows are still in the index."""
    shared_database.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED, "ANALYZE things")
    reader = shared_database.open()
    run_on(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM things LIMIT 1")
    shared_database.run("DELETE FROM things WHERE id % 4 <> 0", COUNTED, "VACUUM ANALYZE things", COUNTED)
    assert list(bloat(shared_database.context)) == []
    run_on(reader, "ROLLBACK")


def test_estimate_without_the_extension_is_unknown(database: IndexDatabase) -> None:
    database.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    bloated_index(database)
    database.run("DROP EXTENSION pgstattuple")
    (finding,) = bloat(database.context)
    assert finding.level is Level.UNKNOWN
    assert "CREATE EXTENSION pgstattuple" in str(finding.remedy)
    assert finding.sql is None
    database.run("CREATE SCHEMA elsewhere", "CREATE EXTENSION pgstattuple SCHEMA elsewhere")
    (finding,) = bloat(database.context)
    assert finding.evidence["measured"] is True


def test_index_too_large_to_measure_is_reported(
    shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bloat_check, "MEASURED_BYTES", 1_000_000)
    shared_database.run(*TABLE, "CREATE INDEX it ON things (id)", COUNTED)
    bloated_index(shared_database)
    (finding,) = bloat(shared_database.context)
    assert (finding.level, finding.evidence["measured"]) == (Level.UNKNOWN, False)


def test_other_index_methods_are_ignored(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "CREATE INDEX it ON things USING hash (a)", COUNTED)
    bloated_index(shared_database)
    assert findings_about(bloat(shared_database.context), "it") == []
