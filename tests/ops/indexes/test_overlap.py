"""Duplicates and left prefixes: which are equal, and which of two is dropped."""

import pytest

from ops.indexes.checks.overlap import dependent_of, duplicate, redundant
from ops.indexes.snapshot import read_indexes
from tests.ops.indexes.conftest import IndexDatabase

TABLE = "CREATE TABLE things (id int PRIMARY KEY, a int, b text, c int, d int4range)"


def create_indexes(shared_database: IndexDatabase, *indexes: str) -> None:
    """Create the table with indexes named one, two and so on."""
    names = ("one", "two", "three", "four")
    shared_database.run(
        TABLE,
        *(definition.replace("INDEX ON", f"INDEX {name} ON") for name, definition in zip(names, indexes, strict=False)),
    )


def reported(shared_database: IndexDatabase) -> dict[str, tuple[str, str]]:
    """Return each reported index with the other one and the relation."""
    return {
        str(finding.evidence["index"]).removeprefix("public."): (
            kind,
            str(finding.evidence["other"]).removeprefix("public."),
        )
        for kind, check in (("duplicate", duplicate), ("redundant", redundant))
        for finding in check(shared_database.context)
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
def test_second_equal_index_is_a_duplicate(shared_database: IndexDatabase, indexes: tuple[str, str]) -> None:
    create_indexes(shared_database, *indexes)
    assert reported(shared_database) == {"two": ("duplicate", "one")}
    (finding,) = duplicate(shared_database.context)
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
def test_left_prefix_is_redundant(shared_database: IndexDatabase, indexes: tuple[str, str]) -> None:
    create_indexes(shared_database, *indexes)
    assert reported(shared_database) == {"one": ("redundant", "two")}
    (finding,) = redundant(shared_database.context)
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
def test_similar_indexes_are_not_duplicates(shared_database: IndexDatabase, indexes: tuple[str, str]) -> None:
    create_indexes(shared_database, *indexes)
    assert reported(shared_database) == {}


def test_operator_class_options_are_compared(shared_database: IndexDatabase) -> None:
    shared_database.run("CREATE TABLE texts (t tsvector)")
    shared_database.run("CREATE INDEX one ON texts USING gist (t tsvector_ops (siglen = 100))")
    shared_database.run("CREATE INDEX two ON texts USING gist (t tsvector_ops (siglen = 200))")
    assert reported(shared_database) == {}


def test_one_of_several_duplicates_is_kept(shared_database: IndexDatabase) -> None:
    create_indexes(shared_database, *["CREATE INDEX ON things (a)"] * 3)
    assert reported(shared_database) == {"two": ("duplicate", "one"), "three": ("duplicate", "one")}


def test_chain_of_prefixes_keeps_the_widest(shared_database: IndexDatabase) -> None:
    create_indexes(
        shared_database,
        "CREATE INDEX ON things (a)",
        "CREATE INDEX ON things (a, b)",
        "CREATE INDEX ON things (a, b, c)",
    )
    assert reported(shared_database) == {"one": ("redundant", "three"), "two": ("redundant", "three")}


def test_covered_duplicates_are_reported_once(shared_database: IndexDatabase) -> None:
    create_indexes(
        shared_database, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a, b)"
    )
    assert reported(shared_database) == {"two": ("duplicate", "one"), "one": ("redundant", "three")}


def test_scanned_duplicate_is_kept(shared_database: IndexDatabase) -> None:
    create_indexes(shared_database, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)")
    shared_database.run("ALTER INDEX one RENAME TO idle")
    shared_database.run(
        "DROP INDEX two", "INSERT INTO things SELECT n, n FROM generate_series(1, 5000) AS n", "ANALYZE things"
    )
    shared_database.run(
        "SET enable_seqscan = off", "SELECT FROM things WHERE a = 1", "CREATE INDEX later ON things (a)"
    )
    shared_database.run("SELECT pg_stat_force_next_flush()")
    assert shared_database.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'idle'") > 0
    assert reported(shared_database) == {"later": ("duplicate", "idle")}


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
def test_constraint_index_is_kept(shared_database: IndexDatabase, first: str, second: str, spare: str) -> None:
    shared_database.run(TABLE, first, *filter(None, [second]))
    (finding,) = duplicate(shared_database.context)
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
def test_index_with_a_dependent_is_kept(shared_database: IndexDatabase, protection: str, word: str) -> None:
    shared_database.run(
        TABLE, "ALTER TABLE things ALTER a SET NOT NULL", "CREATE UNIQUE INDEX two ON things (a)", protection
    )
    (two,) = [index for index in read_indexes(shared_database.context).indexes if index.name == "two"]
    assert str(dependent_of(two)).startswith(word)
    shared_database.run("CREATE UNIQUE INDEX one ON things (a)")
    (finding,) = duplicate(shared_database.context)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.one;"


def test_equal_constraints_need_a_decision(shared_database: IndexDatabase) -> None:
    shared_database.run(
        TABLE, "ALTER TABLE things ADD CONSTRAINT one UNIQUE (a)", "ALTER TABLE things ADD CONSTRAINT two UNIQUE (a)"
    )
    (finding,) = duplicate(shared_database.context)
    assert finding.sql is None
    assert "Which of the two can be dropped?" in str(finding.remedy)


def test_duplicate_of_a_declared_index_is_dropped(database: IndexDatabase) -> None:
    database.run("CREATE INDEX a_hand_made_one ON turns (user_id, conversation_id)")
    (finding,) = duplicate(database.context)
    assert finding.sql == "DROP INDEX CONCURRENTLY public.a_hand_made_one;"


def test_declared_index_is_not_dropped_for_a_wider_one(database: IndexDatabase) -> None:
    database.run("CREATE INDEX wide ON turns (user_id, conversation_id, started_at)")
    (finding,) = redundant(database.context)
    assert (finding.evidence["index"], finding.sql) == ("public.ix_turns_conversation", None)
    assert "Is public.wide worth its size?" in str(finding.remedy)


def test_partitioned_duplicates_need_a_decision(shared_database: IndexDatabase) -> None:
    shared_database.run(
        "CREATE TABLE days (day int, a int) PARTITION BY LIST (day)",
        "CREATE TABLE days_1 PARTITION OF days FOR VALUES IN (1)",
        "CREATE INDEX one ON days (a)",
        "CREATE INDEX two ON days (a)",
        "CREATE INDEX local ON days_1 (a)",
    )
    found = {finding.evidence["index"]: finding.sql for finding in duplicate(shared_database.context)}
    assert found == {
        "public.two": None,  # dropping it would block
        "public.days_1_a_idx1": None,  # dropped with its parent
        "public.local": "DROP INDEX CONCURRENTLY public.local;",
    }


def test_invalid_twin_is_not_a_duplicate(shared_database: IndexDatabase) -> None:
    create_indexes(shared_database, "CREATE INDEX ON things (a)", "CREATE INDEX ON things (a)")
    shared_database.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'two'::regclass")
    assert reported(shared_database) == {}
