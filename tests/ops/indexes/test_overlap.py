"""Duplicates and left prefixes: what is told apart, and which of two is to go."""

import pytest

from ops.checks.indexes.overlap import duplicate, held_by, redundant
from ops.checks.indexes.reading import read
from tests.ops.indexes.conftest import House

TABLE = "CREATE TABLE things (id int PRIMARY KEY, a int, b text, c int, d int4range)"


def made(room: House, *indexes: str) -> None:
    """The table with indexes named one, two and so on."""
    names = ("one", "two", "three", "four")
    room.run(TABLE, *(each.replace("INDEX ON", f"INDEX {name} ON") for name, each in zip(names, indexes, strict=False)))


def told(room: House) -> dict[str, tuple[str, str]]:
    """Which index is said to be what of which other one."""
    return {
        str(finding.evidence["index"]).removeprefix("public."): (
            kind,
            str(finding.evidence["other"]).removeprefix("public."),
        )
        for kind, check in (("duplicate", duplicate), ("redundant", redundant))
        for finding in check(room.probe)
    }


@pytest.mark.parametrize(
    "indexes",
    [
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)"),
        ("CREATE INDEX ON things (a, b)", "CREATE INDEX ON things (a, b)"),
        ("CREATE INDEX ON things (lower(b)) WHERE c > 1", "CREATE INDEX ON things (lower(b)) WHERE c > 1"),
        ("CREATE INDEX ON things (a) INCLUDE (b, c)", "CREATE INDEX ON things (a) INCLUDE (c, b)"),
        ("CREATE INDEX ON things USING hash (a)", "CREATE INDEX ON things USING hash (a)"),
        ("CREATE INDEX ON things USING gist (d)", "CREATE INDEX ON things USING gist (d)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a) WITH (fillfactor = 70)"),
        ("CREATE UNIQUE INDEX ON things (a)", "CREATE INDEX ON things (a)"),
    ],
)
def test_the_second_of_two_alike_is_a_duplicate(room: House, indexes: tuple[str, str]) -> None:
    made(room, *indexes)
    assert told(room) == {"two": ("duplicate", "one")}
    (finding,) = duplicate(room.probe)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.two;"


@pytest.mark.parametrize(
    "indexes",
    [
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a, b)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a) INCLUDE (b)"),
        ("CREATE INDEX ON things (a)", "CREATE UNIQUE INDEX ON things (a, b)"),
        ("CREATE INDEX ON things (a) INCLUDE (c)", "CREATE INDEX ON things (a, b) INCLUDE (c)"),
        ("CREATE INDEX ON things (lower(b))", "CREATE INDEX ON things (lower(b), a)"),
        ("CREATE INDEX ON things (a) WHERE c > 1", "CREATE INDEX ON things (a, b) WHERE c > 1"),
        ("CREATE INDEX ON things (a DESC)", "CREATE INDEX ON things (a DESC, b)"),
    ],
)
def test_a_left_prefix_is_redundant(room: House, indexes: tuple[str, str]) -> None:
    made(room, *indexes)
    assert told(room) == {"one": ("redundant", "two")}
    (finding,) = redundant(room.probe)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.one;"


@pytest.mark.parametrize(
    "indexes",
    [
        ("CREATE INDEX ON things (a, c)", "CREATE INDEX ON things (a) INCLUDE (c)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (c, a)"),
        ("CREATE INDEX ON things (a, c)", "CREATE INDEX ON things (c, a)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a DESC, b)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a NULLS FIRST)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things USING hash (a)"),
        ("CREATE INDEX ON things (a)", "CREATE INDEX ON things (a) WHERE c > 1"),
        ("CREATE INDEX ON things (a) WHERE c > 1", "CREATE INDEX ON things (a, b) WHERE c > 2"),
        ("CREATE INDEX ON things (b)", "CREATE INDEX ON things (b text_pattern_ops)"),
        ("CREATE INDEX ON things (b)", 'CREATE INDEX ON things (b COLLATE "POSIX", a)'),
        ("CREATE INDEX ON things (lower(b))", "CREATE INDEX ON things (upper(b), a)"),
        ("CREATE INDEX ON things (b)", "CREATE INDEX ON things (lower(b))"),
        ("CREATE UNIQUE INDEX ON things (a)", "CREATE INDEX ON things (a, b)"),
        ("CREATE UNIQUE INDEX ON things (a)", "CREATE UNIQUE INDEX ON things (a, b)"),
        ("CREATE UNIQUE INDEX ON things (a)", "CREATE UNIQUE INDEX ON things (a) NULLS NOT DISTINCT"),
        ("CREATE INDEX ON things USING gist (d)", "CREATE INDEX ON things USING spgist (d)"),
        ("CREATE INDEX ON things USING gin (to_tsvector('simple', b))", "CREATE INDEX ON things (a)"),
        ("CREATE INDEX ON things USING brin (a)", "CREATE INDEX ON things USING brin (a, c)"),
    ],
)
def test_what_only_looks_alike_is_left_alone(room: House, indexes: tuple[str, str]) -> None:
    made(room, *indexes)
    assert told(room) == {}


def test_operator_classes_with_other_settings_are_others(room: House) -> None:
    room.run("CREATE TABLE texts (t tsvector)")
    room.run("CREATE INDEX one ON texts USING gist (t tsvector_ops (siglen = 100))")
    room.run("CREATE INDEX two ON texts USING gist (t tsvector_ops (siglen = 200))")
    assert told(room) == {}


def test_of_several_alike_one_stays(room: House) -> None:
    made(room, *["CREATE INDEX ON things (a)"] * 3)
    assert told(room) == {"two": ("duplicate", "one"), "three": ("duplicate", "one")}


def test_a_chain_of_prefixes_ends_at_the_widest(room: House) -> None:
    made(room, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a, b)", "CREATE INDEX ON things (a, b, c)")
    assert told(room) == {"one": ("redundant", "three"), "two": ("redundant", "three")}


def test_two_alike_that_a_third_covers(room: House) -> None:
    made(room, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a, b)")
    assert told(room) == {"two": ("duplicate", "one"), "one": ("redundant", "three")}


def test_the_one_that_is_used_stays(room: House) -> None:
    made(room, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)")
    room.run("ALTER INDEX one RENAME TO idle")
    room.run("DROP INDEX two", "INSERT INTO things SELECT n, n FROM generate_series(1, 5000) AS n", "ANALYZE things")
    room.run("SET enable_seqscan = off", "SELECT FROM things WHERE a = 1", "CREATE INDEX later ON things (a)")
    room.run("SELECT pg_stat_force_next_flush()")
    assert room.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'idle'") > 0
    assert told(room) == {"later": ("duplicate", "idle")}


@pytest.mark.parametrize(
    ("first", "second", "spare"),
    [
        ("CREATE INDEX two ON things (id)", "", "two"),
        ("CREATE UNIQUE INDEX two ON things (id)", "", "two"),
        ("CREATE INDEX two ON things (a)", "ALTER TABLE things ADD CONSTRAINT rule UNIQUE (a)", "two"),
        ("CREATE UNIQUE INDEX two ON things (a)", "ALTER TABLE things ADD CONSTRAINT rule UNIQUE (a)", "two"),
        ("CREATE INDEX two ON things (a)", "CREATE UNIQUE INDEX rule ON things (a)", "two"),
    ],
)
def test_what_a_constraint_needs_stays(room: House, first: str, second: str, spare: str) -> None:
    room.run(TABLE, first, *filter(None, [second]))
    (finding,) = duplicate(room.probe)
    assert finding.sql == f"DROP INDEX CONCURRENTLY public.{spare};"


@pytest.mark.parametrize(
    ("protection", "word"),
    [
        ("CLUSTER things USING two", "CLUSTER"),
        ("ALTER TABLE things REPLICA IDENTITY USING INDEX two", "logical replication"),
        ("ALTER TABLE things ADD CONSTRAINT two UNIQUE USING INDEX two", "the constraint two"),
        ("CREATE TABLE others (a int REFERENCES things (a))", "a foreign key"),
    ],
)
def test_what_depends_on_an_index_keeps_it(room: House, protection: str, word: str) -> None:
    room.run(TABLE, "ALTER TABLE things ALTER a SET NOT NULL", "CREATE UNIQUE INDEX two ON things (a)", protection)
    (two,) = [index for index in read(room.probe).indexes if index.name == "two"]
    assert str(held_by(two)).startswith(word)
    room.run("CREATE UNIQUE INDEX one ON things (a)")
    (finding,) = duplicate(room.probe)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.one;"


def test_two_constraints_that_say_the_same_are_left_to_a_person(room: House) -> None:
    room.run(
        TABLE, "ALTER TABLE things ADD CONSTRAINT one UNIQUE (a)", "ALTER TABLE things ADD CONSTRAINT two UNIQUE (a)"
    )
    (finding,) = duplicate(room.probe)
    assert finding.sql is None
    assert "decide by hand" in str(finding.remedy)


def test_a_duplicate_of_ours_is_the_one_to_go(house: House) -> None:
    house.run("CREATE INDEX a_hand_made_one ON turns (user_id, conversation_id)")
    (finding,) = duplicate(house.probe)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.a_hand_made_one;"


def test_a_wider_one_does_not_make_ours_go(house: House) -> None:
    house.run("CREATE INDEX wide ON turns (user_id, conversation_id, started_at)")
    (finding,) = redundant(house.probe)
    assert (finding.evidence["index"], finding.sql) == ("public.ix_turns_conversation", None)
    assert "see whether public.wide is worth its size" in str(finding.remedy)


def test_partitioned_ones_are_told_and_left_to_a_person(room: House) -> None:
    room.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "CREATE INDEX one ON days (a)",
        "CREATE INDEX two ON days (a)",
        "CREATE INDEX local ON days_1 (a)",
    )
    found = {finding.evidence["index"]: finding.sql for finding in duplicate(room.probe)}
    assert found == {
        "public.two": None,  # dropping it would block
        "public.days_1_a_idx1": None,  # it goes with its parent
        "public.local": "DROP INDEX CONCURRENTLY public.local;",
    }


def test_an_invalid_twin_is_no_twin(room: House) -> None:
    made(room, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)")
    room.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'two'::regclass")
    assert told(room) == {}
