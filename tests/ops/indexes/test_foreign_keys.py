"""Foreign keys without an index: what serves one, proven by what PostgreSQL really does."""

import pytest

from ops.checks.indexes.foreign_keys import foreign_keys
from ops.levels import Level
from tests.ops.indexes.conftest import House

PARENT = "CREATE TABLE parents (a int, b int, t text, PRIMARY KEY (a, b), UNIQUE (b), UNIQUE (t))"
COMPOSITE = "CREATE TABLE children (a int, b int, c int, FOREIGN KEY (a, b) REFERENCES parents)"
SINGLE = "CREATE TABLE children (b int REFERENCES parents (b), c int, a int)"
TEXT = "CREATE TABLE children (t text REFERENCES parents (t), c int)"

SERVES = [
    (COMPOSITE, "(a, b)"),
    (COMPOSITE, "(b, a)"),
    (COMPOSITE, "(b, a, c)"),
    (COMPOSITE, "(b DESC, a) INCLUDE (c)"),
    (COMPOSITE, "(a, b) WHERE a IS NOT NULL"),
    (COMPOSITE, "(a, b) WHERE a IS NOT NULL AND b IS NOT NULL"),
    (SINGLE, "(b)"),
    (SINGLE, "(b, c)"),
    (SINGLE, "(b) WHERE b IS NOT NULL"),
    (SINGLE, "USING hash (b)"),
    (TEXT, "(t)"),
    (TEXT, "(t text_pattern_ops)"),
]
SERVES_NOT = [
    (COMPOSITE, "(a)"),
    (COMPOSITE, "(a, c, b)"),
    (COMPOSITE, "(c, a, b)"),
    (COMPOSITE, "(a) INCLUDE (b)"),
    (COMPOSITE, "(a, b) WHERE c IS NOT NULL"),
    (COMPOSITE, "(a, b) WHERE a > 0"),
    (COMPOSITE, "(a, b) WHERE a IS NOT NULL OR c = 1"),
    (COMPOSITE, "(a, b) WHERE a IS NULL"),
    (SINGLE, "(c, b)"),
    (SINGLE, "((b + 0))"),
    (SINGLE, "(b) WHERE b > 0"),
    (SINGLE, "USING brin (b)"),
    (TEXT, '(t COLLATE "POSIX")'),
    (TEXT, "(lower(t))"),
]


def rows(room: House) -> None:
    """Ten thousand of each, so that an index is worth it."""
    room.run("INSERT INTO parents SELECT n, n, n FROM generate_series(1, 10000) AS n")
    columns = [
        row[0]
        for row in room.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'children'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ]
    values = ", ".join("n::text" if column == "t" else "n" for column in columns)
    room.run(f"INSERT INTO children SELECT {values} FROM generate_series(1, 10000) AS n")
    room.run("DELETE FROM children WHERE c = 7777", "ANALYZE parents, children")


def uses_index(room: House) -> bool:
    """Whether deleting a parent looks for its children in the index, planned for all values; PostgreSQL counts it."""
    room.run(
        "SET plan_cache_mode = force_generic_plan",
        "DELETE FROM parents WHERE b = 7777",
        "SELECT pg_stat_force_next_flush()",
    )
    return bool(room.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'it'"))


@pytest.mark.parametrize(("table", "index"), SERVES)
def test_what_serves(room: House, table: str, index: str) -> None:
    room.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    assert list(foreign_keys(room.probe)) == []
    rows(room)
    assert uses_index(room)


@pytest.mark.parametrize(("table", "index"), SERVES_NOT)
def test_what_does_not(room: House, table: str, index: str) -> None:
    room.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    (finding,) = foreign_keys(room.probe)
    assert finding.level is Level.WARNING
    assert finding.sql is not None
    room.run(finding.sql)
    assert list(foreign_keys(room.probe)) == []


@pytest.mark.parametrize(
    ("table", "index"), [each for each in SERVES_NOT if each[1] in ("(a, b) WHERE a > 0", '(t COLLATE "POSIX")')]
)
def test_the_doubtful_ones_really_do_not(room: House, table: str, index: str) -> None:
    room.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    rows(room)
    assert not uses_index(room)


def test_our_own_keys_are_served_the_partial_one_too(house: House) -> None:
    assert list(foreign_keys(house.probe)) == []
    house.run("DROP INDEX ix_conversations_project")
    (finding,) = foreign_keys(house.probe)
    assert finding.evidence["columns"] == ["user_id", "project_id"]


def test_deleting_a_project_finds_its_conversations_in_the_partial_index(house: House) -> None:
    """The plan that PostgreSQL keeps for the constraint knows that `project_id = $1` is never true of null."""
    house.run(
        "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@b', 'a', 'x')",
        "INSERT INTO projects (user_id, id, name) SELECT id, gen_random_uuid(), 'p' FROM users, generate_series(1, 20)",
        "INSERT INTO conversations (user_id, id, project_id)"
        " SELECT user_id, gen_random_uuid(), CASE WHEN n % 100 = 0 THEN projects.id END"
        " FROM projects, generate_series(1, 500) AS n",
        "ANALYZE",
        "DELETE FROM projects",
        "SELECT pg_stat_force_next_flush()",
    )
    scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'ix_conversations_project'"
    assert house.value(scans) == 20


def test_names_that_are_too_long_or_taken_are_avoided(room: House) -> None:
    name = "c" * 60
    room.run(PARENT, f"CREATE TABLE {name} (b int REFERENCES parents (b), c int)")
    room.run(f"CREATE INDEX ix_{name} ON {name} (c)")
    (finding,) = foreign_keys(room.probe)
    room.run(str(finding.sql))
    assert list(foreign_keys(room.probe)) == []


def test_a_table_that_points_to_itself_and_other_schemas(house: House) -> None:
    house.run(
        'CREATE SCHEMA "Odd one"',
        'CREATE TABLE "Odd one".itself ("the id" int PRIMARY KEY, "up ""there""" int REFERENCES "Odd one".itself)',
    )
    (finding,) = foreign_keys(house.probe)
    house.run(str(finding.sql))
    assert list(foreign_keys(house.probe)) == []


def test_partitions_answer_for_themselves_and_are_told_once(room: House) -> None:
    room.run(
        PARENT,
        "CREATE TABLE children (b int REFERENCES parents (b), day int) PARTITION BY LIST (day)",
        "CREATE TABLE children_1 PARTITION OF children FOR VALUES IN (1)",
        "CREATE TABLE children_2 PARTITION OF children FOR VALUES IN (2)",
        "CREATE INDEX ON children_1 (b)",
    )
    (finding,) = foreign_keys(room.probe)
    assert finding.evidence["partitions"] == ["public.children_2"]
    room.run(str(finding.sql))
    assert list(foreign_keys(room.probe)) == []


def test_an_invalid_index_serves_nobody(room: House) -> None:
    room.run(PARENT, SINGLE, "CREATE INDEX it ON children (b)")
    room.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'it'::regclass")
    assert len(list(foreign_keys(room.probe))) == 1


def test_keys_of_different_types_are_compared_by_their_operator(room: House) -> None:
    room.run(PARENT, "CREATE TABLE children (b bigint REFERENCES parents (b))", "CREATE INDEX it ON children (b)")
    assert list(foreign_keys(room.probe)) == []
