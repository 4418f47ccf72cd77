"""Constraints, sequences and the cache."""

import pytest

from ops.checks import cache as cache_check
from ops.checks import vacuum as vacuum_check
from ops.checks.cache import cache
from ops.checks.constraints import rules, unvalidated
from ops.checks.sequences import sequences
from ops.checks.vacuum import vacuum
from ops.findings import CannotJudge
from ops.levels import Level
from tests.ops.indexes.conftest import House, about, holding

INT = 2**31 - 1


def test_a_constraint_that_was_never_validated(room: House) -> None:
    room.run("CREATE TABLE things (a int, b int)", "INSERT INTO things VALUES (-1, 1)")
    room.run("ALTER TABLE things ADD CONSTRAINT positive CHECK (a > 0) NOT VALID")
    (finding,) = unvalidated(room.probe)
    with pytest.raises(Exception, match="violated"):
        room.run(str(finding.sql))
    room.run("UPDATE things SET a = 1", str(finding.sql))
    assert list(unvalidated(room.probe)) == []


def test_a_foreign_key_that_was_never_validated_once_for_all_partitions(room: House) -> None:
    room.run(
        'CREATE TABLE "other parents" (id int PRIMARY KEY)',
        "CREATE TABLE children (b int, day int)",
        'ALTER TABLE children ADD CONSTRAINT "the key" FOREIGN KEY (b) REFERENCES "other parents" NOT VALID',
    )
    (finding,) = unvalidated(room.probe)
    room.run(str(finding.sql))
    assert list(unvalidated(room.probe)) == []
    room.run('DROP TABLE "other parents" CASCADE')


def test_what_is_not_enforced_is_not_expected_to_hold(room: House) -> None:
    if room.probe.version < 18:
        pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    room.run("CREATE TABLE things (a int, CONSTRAINT wish CHECK (a > 0) NOT ENFORCED)")
    assert list(unvalidated(room.probe)) == []


def test_each_rule_of_the_models_is_there_and_is_missed(house: House) -> None:
    assert list(unvalidated(house.probe)) == []
    assert len(rules()) > 30
    for table, name in [*rules()][::3]:
        house.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        (finding,) = unvalidated(house.probe)
        assert f"{table} lacks its rule {name}" in finding.what
        house.run(*str(finding.sql).split("\n"))
        assert list(unvalidated(house.probe)) == []


def test_a_rule_that_somebody_loosened(house: House) -> None:
    house.run("ALTER TABLE turns DROP CONSTRAINT ck_turns_status, ADD CONSTRAINT ck_turns_status CHECK (status <> '')")
    (finding,) = unvalidated(house.probe)
    assert "is another than" in finding.what
    house.run(*str(finding.sql).split("\n"))
    assert list(unvalidated(house.probe)) == []


def test_a_foreign_key_that_nobody_keeps(house: House) -> None:
    house.run("ALTER TABLE messages DISABLE TRIGGER ALL")
    (finding,) = unvalidated(house.probe)
    assert finding.level is Level.CRITICAL
    assert "fk_messages_conversations" in finding.what
    house.run(str(finding.sql))
    assert list(unvalidated(house.probe)) == []


def test_of_a_database_that_is_behind_no_rule_is_missed(house: House) -> None:
    house.run("CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('0001')")
    with pytest.raises(CannotJudge, match="migration 0001"):
        list(unvalidated(house.probe))


def test_our_own_rule_that_is_not_enforced(house: House) -> None:
    if house.probe.version < 18:
        pytest.skip("NOT ENFORCED came with PostgreSQL 18")
    house.run("ALTER TABLE messages ALTER CONSTRAINT fk_messages_conversations NOT ENFORCED")
    (finding,) = unvalidated(house.probe)
    assert finding.level is Level.CRITICAL


@pytest.mark.parametrize("option", ["autovacuum_enabled", "toast.autovacuum_enabled"])
def test_a_table_of_ours_that_autovacuum_leaves_alone(house: House, option: str) -> None:
    assert list(vacuum(house.probe)) == []
    house.run(f"ALTER TABLE messages SET ({option} = off)", "CREATE TABLE theirs () WITH (autovacuum_enabled = off)")
    (finding,) = vacuum(house.probe)
    assert option in str(finding.sql)
    house.run(str(finding.sql))
    assert list(vacuum(house.probe)) == []


def test_dead_rows_and_who_keeps_them(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum_check, "DEAD_ROWS", 100)
    flush = "SELECT pg_stat_force_next_flush()"
    room.run("CREATE TABLE things (a int) WITH (autovacuum_enabled = off)")
    room.run("INSERT INTO things SELECT generate_series(1, 300)", flush)
    assert about(vacuum(room.probe), "things") == []
    room.run("DELETE FROM things WHERE a <= 200", flush)
    (finding,) = about(vacuum(room.probe), "things")
    assert "200 of 300 rows" in finding.what
    with holding(room, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1 FROM things"):
        (finding,) = about(vacuum(room.probe), "things")
        assert finding.evidence["held_back_by"]
        assert "transactions" in str(finding.remedy)
    room.run(str(finding.sql), flush)
    assert about(vacuum(room.probe), "things") == []


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
def test_a_sequence_that_runs_out(room: House, table: str, value: float, level: Level | None) -> None:
    room.run(f"CREATE TABLE things {table}")
    room.run(f"SELECT setval(pg_get_serial_sequence('things', 'id'), {int(value)})")
    assert [finding.level for finding in sequences(room.probe)] == ([level] if level else [])


def test_a_column_that_is_smaller_than_its_sequence(room: House) -> None:
    """The sequence alone says that it has nine quintillion numbers left."""
    room.run("CREATE SEQUENCE numbers", "CREATE TABLE things (id int DEFAULT nextval('numbers'))")
    room.run(f"SELECT setval('numbers', {int(0.8 * INT)})")
    (finding,) = sequences(room.probe)
    assert "public.things.id can hold" in finding.what
    room.run("ALTER TABLE things ALTER id TYPE bigint")
    assert list(sequences(room.probe)) == []
    room.run("DROP SEQUENCE numbers CASCADE")


@pytest.mark.parametrize(
    ("sequence", "value", "told"),
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
def test_directions_and_bounds(room: House, sequence: str, value: int, told: bool) -> None:
    room.run(f'CREATE SEQUENCE "a \'seq" {sequence}', f"SELECT setval('\"a ''seq\"', {value})")
    found = list(sequences(room.probe))
    room.run('DROP SEQUENCE "a \'seq"')
    assert bool(found) is told


def test_one_that_was_never_used_has_used_nothing(room: House) -> None:
    room.run("CREATE TABLE things (id smallserial)")
    assert list(sequences(room.probe)) == []


def test_the_cache_is_told_of_once_reads_are_many(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight hundred megabytes are too many for a test: the bound is lowered, the reads are real."""
    room.run("CREATE TABLE things AS SELECT n FROM generate_series(1, 20000) AS n", "VACUUM FULL things")
    room.run(
        "SELECT pg_stat_force_next_flush()",
        "SELECT pg_stat_reset()",
        "SELECT count(*) FROM things",
        "SELECT pg_stat_force_next_flush()",
    )
    blocks = "SELECT sum(heap_blks_read), sum(heap_blks_hit) FROM pg_statio_user_tables"
    ((reads, hits),) = room.run(blocks)
    assert (reads > 50, hits) == (True, 0)
    assert list(cache(room.probe)) == []
    monkeypatch.setattr(cache_check, "LEAST_READS", reads)
    (finding,) = cache(room.probe)
    assert (finding.level, finding.evidence["reads"], finding.evidence["hits"]) == (Level.WARNING, reads, 0)
    room.run(*["SELECT count(*) FROM things"] * 100, "SELECT pg_stat_force_next_flush()")
    assert room.run(blocks) == [(reads, 100 * reads)]
    assert list(cache(room.probe)) == []
