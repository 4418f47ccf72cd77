"""Constraints, sequences and the cache."""

import json
from datetime import timedelta

import pytest

from ops.catalogue.jobs import RECORD_STATS
from ops.doctor.checks import cache as cache_check
from ops.doctor.checks import vacuum as vacuum_check
from ops.doctor.checks.cache import cache
from ops.doctor.checks.constraints import check_constraints
from ops.doctor.checks.sequences import sequences
from ops.doctor.checks.vacuum import vacuum
from ops.doctor.declared_conditions import declared_conditions
from ops.errors import UnknownState
from ops.levels import Level
from ops.stats.cache import read_cache
from tests.ops.indexes.conftest import IndexDatabase, findings_about, open_transaction

INT = 2**31 - 1


def test_unvalidated_constraint_is_found(shared_database: IndexDatabase) -> None:
    shared_database.run("CREATE TABLE things (a int, b int)", "INSERT INTO things VALUES (-1, 1)")
    shared_database.run("ALTER TABLE things ADD CONSTRAINT positive CHECK (a > 0) NOT VALID")
    (finding,) = check_constraints(shared_database.context)
    with pytest.raises(Exception, match="violated"):
        shared_database.run(str(finding.sql))
    shared_database.run("UPDATE things SET a = 1", str(finding.sql))
    assert list(check_constraints(shared_database.context)) == []


def test_unvalidated_key_of_partitions_is_found_once(shared_database: IndexDatabase) -> None:
    shared_database.run(
        'CREATE TABLE "other parents" (id int PRIMARY KEY)',
        "CREATE TABLE children (b int, day int)",
        'ALTER TABLE children ADD CONSTRAINT "the key" FOREIGN KEY (b) REFERENCES "other parents" NOT VALID',
    )
    (finding,) = check_constraints(shared_database.context)
    shared_database.run(str(finding.sql))
    assert list(check_constraints(shared_database.context)) == []
    shared_database.run('DROP TABLE "other parents" CASCADE')


def test_foreign_constraint_not_enforced_is_ignored(shared_database: IndexDatabase) -> None:
    if shared_database.context.version < 18:
        pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    shared_database.run("CREATE TABLE things (a int, CONSTRAINT wish CHECK (a > 0) NOT ENFORCED)")
    assert list(check_constraints(shared_database.context)) == []


def test_each_declared_condition_is_found_missing(database: IndexDatabase) -> None:
    assert list(check_constraints(database.context)) == []
    assert len(declared_conditions()) > 30
    for table, name in [*declared_conditions()][::3]:
        database.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        (finding,) = check_constraints(database.context)
        assert f"{table} lacks its constraint {name}" in finding.message
        database.run(*str(finding.sql).split("\n"))
        assert list(check_constraints(database.context)) == []


UNEXPECTED = {
    "ALTER TABLE users ADD CONSTRAINT theirs CHECK (name <> 'x')": "public.users theirs",
    "CREATE UNIQUE INDEX theirs ON users (name)": "public.users theirs",
    'ALTER TABLE users ADD CONSTRAINT "their key" UNIQUE (name)': 'public.users "their key"',
    "ALTER TABLE turns ADD CONSTRAINT theirs EXCLUDE USING btree (id WITH =)": "public.turns theirs",
    'CREATE TABLE "their table" (a uuid CONSTRAINT theirs REFERENCES users (id))': 'public."their table" theirs',
}


@pytest.mark.parametrize("change", UNEXPECTED)
def test_constraint_that_no_model_declares_is_found(database: IndexDatabase, change: str) -> None:
    database.run(change)
    (finding,) = check_constraints(database.context)
    assert (finding.level, finding.object) == (Level.WARNING, UNEXPECTED[change])
    assert "?" in str(finding.remedy)
    database.run(str(finding.sql))
    assert list(check_constraints(database.context)) == []


def test_declared_unique_index_with_other_name_is_not_unexpected(database: IndexDatabase) -> None:
    database.run("ALTER INDEX uq_users_email_key RENAME TO theirs")
    assert list(check_constraints(database.context)) == []


def test_changed_condition_is_found(database: IndexDatabase) -> None:
    database.run(
        "ALTER TABLE turns DROP CONSTRAINT ck_turns_status, ADD CONSTRAINT ck_turns_status CHECK (status <> '')"
    )
    (finding,) = check_constraints(database.context)
    assert "differs from the one" in finding.message
    database.run(*str(finding.sql).split("\n"))
    assert list(check_constraints(database.context)) == []


def test_disabled_foreign_key_is_critical(database: IndexDatabase) -> None:
    database.run("ALTER TABLE messages DISABLE TRIGGER ALL")
    (finding,) = check_constraints(database.context)
    assert finding.level is Level.CRITICAL
    assert "fk_messages_conversations" in finding.message
    database.run(str(finding.sql))
    assert list(check_constraints(database.context)) == []


def test_older_revision_is_unknown(database: IndexDatabase) -> None:
    database.run("CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('0001')")
    with pytest.raises(UnknownState, match="revision 0001"):
        list(check_constraints(database.context))


def test_declared_constraint_not_enforced_is_critical(database: IndexDatabase) -> None:
    if database.context.version < 18:
        pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    database.run("ALTER TABLE messages ALTER CONSTRAINT fk_messages_conversations NOT ENFORCED")
    (finding,) = check_constraints(database.context)
    assert finding.level is Level.CRITICAL


@pytest.mark.parametrize("option", ["autovacuum_enabled", "toast.autovacuum_enabled"])
def test_disabled_autovacuum_is_found(database: IndexDatabase, option: str) -> None:
    assert list(vacuum(database.context)) == []
    database.run(f"ALTER TABLE messages SET ({option} = off)", "CREATE TABLE theirs () WITH (autovacuum_enabled = off)")
    (finding,) = vacuum(database.context)
    assert option in str(finding.sql)
    database.run(str(finding.sql))
    assert list(vacuum(database.context)) == []


def test_dead_rows_are_found_with_their_holders(
    shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum_check, "DEAD_ROWS", 100)
    flush = "SELECT pg_stat_force_next_flush()"
    shared_database.run("CREATE TABLE things (a int) WITH (autovacuum_enabled = off)")
    shared_database.run("INSERT INTO things SELECT generate_series(1, 300)", flush)
    assert findings_about(vacuum(shared_database.context), "things") == []
    shared_database.run("DELETE FROM things WHERE a <= 200", flush)
    (finding,) = findings_about(vacuum(shared_database.context), "things")
    assert "200 of 300 rows" in finding.message
    with open_transaction(shared_database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM things"):
        (finding,) = findings_about(vacuum(shared_database.context), "things")
        assert finding.evidence["held_back_by"]
        assert "transactions" in str(finding.remedy)
    shared_database.run(str(finding.sql), flush)
    assert findings_about(vacuum(shared_database.context), "things") == []


@pytest.mark.parametrize(
    ("table", "value", "level"),
    [
        ("(id serial)", 0.74 * INT, None),
        ("(id serial)", 0.76 * INT, Level.WARNING),
        ("(id serial)", 0.91 * INT, Level.CRITICAL),
        ("(id bigserial)", 0.99 * INT, None),
        ("(id smallserial)", 30_000, Level.CRITICAL),
        ("(id int GENERATED ALWAYS AS IDENTITY)", 0.8 * INT, Level.WARNING),
        ("(id bigint GENERATED BY DEFAULT AS IDENTITY (MAXVALUE 100))", 80, Level.WARNING),
    ],
)
def test_exhausted_sequence_is_found(
    shared_database: IndexDatabase, table: str, value: float, level: Level | None
) -> None:
    shared_database.run(f"CREATE TABLE things {table}")
    shared_database.run(f"SELECT setval(pg_get_serial_sequence('things', 'id'), {int(value)})")
    assert [finding.level for finding in sequences(shared_database.context)] == ([level] if level else [])


def test_column_smaller_than_its_sequence_is_found(shared_database: IndexDatabase) -> None:
    """The sequence alone has nine quintillion values left."""
    shared_database.run("CREATE SEQUENCE numbers", "CREATE TABLE things (id int DEFAULT nextval('numbers'))")
    shared_database.run(f"SELECT setval('numbers', {int(0.8 * INT)})")
    (finding,) = sequences(shared_database.context)
    assert "public.things.id can hold" in finding.message
    shared_database.run("ALTER TABLE things ALTER id TYPE bigint")
    assert list(sequences(shared_database.context)) == []
    shared_database.run("DROP SEQUENCE numbers CASCADE")


@pytest.mark.parametrize(
    ("sequence", "value", "is_reported"),
    [
        ("INCREMENT -1 MINVALUE -100", -80, True),
        ("INCREMENT -1 MINVALUE -100", -10, False),
        ("INCREMENT -1 MINVALUE 1 MAXVALUE 100 START 100", 10, True),
        ("INCREMENT -1 MINVALUE 1 MAXVALUE 100 START 100", 90, False),
        ("MINVALUE 1000 MAXVALUE 1100 START 1000", 1010, False),
        ("MINVALUE 1000 MAXVALUE 1100 START 1000", 1090, True),
        ("MINVALUE -100 MAXVALUE 100 START -100", -50, False),
        ("MINVALUE -100 MAXVALUE 100 START -100", 80, True),
        ("MAXVALUE 100 CYCLE", 99, False),
        ("MINVALUE 5 MAXVALUE 6", 6, True),
    ],
)
def test_directions_and_limits_of_sequences(
    shared_database: IndexDatabase, sequence: str, value: int, is_reported: bool
) -> None:
    shared_database.run(f'CREATE SEQUENCE "a \'seq" {sequence}', f"SELECT setval('\"a ''seq\"', {value})")
    found = list(sequences(shared_database.context))
    shared_database.run('DROP SEQUENCE "a \'seq"')
    assert bool(found) is is_reported


def test_unused_sequence_is_ignored(shared_database: IndexDatabase) -> None:
    shared_database.run("CREATE TABLE things (id smallserial)")
    assert list(sequences(shared_database.context)) == []


READ = "SELECT count(*) FROM things"
FLUSH = "SELECT pg_stat_force_next_flush()"


def record_cache(database: IndexDatabase, ago: timedelta) -> None:
    """Record the present counters, as if the hourly job had done so some time ago."""
    database.run(FLUSH)
    counters = read_cache(database.context.connection)
    hits_and_reads = (counters.table_hits, counters.table_reads, counters.index_hits, counters.index_reads)
    database.run(
        "INSERT INTO job_runs (id, job, status, started_at, finished_at, report) VALUES (gen_random_uuid(), %(job)s,"
        " 'succeeded', now() - %(ago)s, now() - %(ago)s, %(report)s)",
        job=RECORD_STATS.name,
        ago=ago,
        report=json.dumps({"database_bytes": 0, "tables": {}, "cache": (str(counters.since), *hits_and_reads)}),
    )


@pytest.fixture
def cold(database: IndexDatabase) -> IndexDatabase:
    """Return a database with a table that is not in the cache."""
    database.run("CREATE TABLE things AS SELECT n FROM generate_series(1, 20000) AS n", "VACUUM FULL things", FLUSH)
    database.run("SELECT pg_stat_reset()")
    return database


def test_hit_ratio_is_that_of_the_last_day(cold: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The minimum is lowered, because 800 MB take too long."""
    record_cache(cold, timedelta(days=2))
    cold.run(READ, FLUSH)
    (reads,) = cold.run("SELECT sum(heap_blks_read) FROM pg_statio_user_tables")[0]
    assert reads > 50
    assert list(cache(cold.context)) == []
    monkeypatch.setattr(cache_check, "MIN_READS", reads)
    (finding,) = cache(cold.context)
    assert (finding.level, finding.object, finding.evidence["reads"]) == (Level.WARNING, "tables", reads)
    record_cache(cold, timedelta(hours=25))  # the misses are older than a day now
    assert list(cache(cold.context)) == []


def test_misses_after_many_hits_are_found(cold: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_check, "MIN_READS", 50)
    cold.run(*[READ] * 200)
    record_cache(cold, timedelta(days=2))
    assert list(cache(cold.context)) == []
    cold.run("CREATE TABLE others AS SELECT n FROM generate_series(1, 20000) AS n", "VACUUM FULL others", FLUSH)
    cold.run("SELECT count(*) FROM others", FLUSH)
    (finding,) = cache(cold.context)  # below 99% since then, above since the start
    assert finding.evidence["reads"] > 50


def test_reset_counters_are_not_compared_with_older_ones(cold: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_check, "MIN_READS", 50)
    cold.run(*[READ] * 200)
    record_cache(cold, timedelta(days=2))
    cold.run("VACUUM FULL things", FLUSH, "SELECT pg_stat_reset()", READ, FLUSH)
    (finding,) = cache(cold.context)
    assert finding.evidence["hits"] < 50


def test_hit_ratio_without_a_record_is_unknown(cold: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_check, "MIN_READS", 50)
    cold.run(READ, FLUSH)
    with pytest.raises(UnknownState, match="no counters were recorded"):
        list(cache(cold.context))
