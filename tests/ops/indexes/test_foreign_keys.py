"""Foreign keys without a supporting index, compared with PostgreSQL's actual plans."""

import pytest

from ops.indexes.checks.foreign_keys import foreign_keys
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase

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


def rows(shared_database: IndexDatabase) -> None:
    """Insert ten thousand rows each, so that the planner uses an index."""
    shared_database.run("INSERT INTO parents SELECT n, n, n FROM generate_series(1, 10000) AS n")
    columns = [
        row[0]
        for row in shared_database.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'children'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ]
    values = ", ".join("n::text" if column == "t" else "n" for column in columns)
    shared_database.run(f"INSERT INTO children SELECT {values} FROM generate_series(1, 10000) AS n")
    shared_database.run("DELETE FROM children WHERE c = 7777", "ANALYZE parents, children")


def uses_index(shared_database: IndexDatabase) -> bool:
    """Return whether deleting a parent uses the index for its children, by PostgreSQL's counters and a generic plan."""
    shared_database.run(
        "SET plan_cache_mode = force_generic_plan",
        "DELETE FROM parents WHERE b = 7777",
        "SELECT pg_stat_force_next_flush()",
    )
    return bool(shared_database.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'it'"))


@pytest.mark.parametrize(("table", "index"), SERVES)
def test_supporting_index_has_no_finding(shared_database: IndexDatabase, table: str, index: str) -> None:
    shared_database.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    assert list(foreign_keys(shared_database.context)) == []
    rows(shared_database)
    assert uses_index(shared_database)


@pytest.mark.parametrize(("table", "index"), SERVES_NOT)
def test_unsupported_key_is_found(shared_database: IndexDatabase, table: str, index: str) -> None:
    shared_database.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    (finding,) = foreign_keys(shared_database.context)
    assert finding.level is Level.WARNING
    assert finding.sql is not None
    shared_database.run(finding.sql)
    assert list(foreign_keys(shared_database.context)) == []


@pytest.mark.parametrize(
    ("table", "index"), [case for case in SERVES_NOT if case[1] in ("(a, b) WHERE a > 0", '(t COLLATE "POSIX")')]
)
def test_planner_does_not_use_the_doubtful_indexes(shared_database: IndexDatabase, table: str, index: str) -> None:
    shared_database.run(PARENT, table, f"CREATE INDEX it ON children {index}")
    rows(shared_database)
    assert not uses_index(shared_database)


def test_models_keys_are_supported(database: IndexDatabase) -> None:
    assert list(foreign_keys(database.context)) == []
    database.run("DROP INDEX ix_conversations_project")
    (finding,) = foreign_keys(database.context)
    assert finding.evidence["columns"] == ["user_id", "project_id"]


def test_project_deletion_uses_the_partial_index(database: IndexDatabase) -> None:
    """The generic plan of the constraint uses that `project_id = $1` is never true for null."""
    database.run(
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
    assert database.value(scans) == 20


def test_new_index_names_are_short_and_free(shared_database: IndexDatabase) -> None:
    name = "c" * 60
    shared_database.run(PARENT, f"CREATE TABLE {name} (b int REFERENCES parents (b), c int)")
    shared_database.run(f"CREATE INDEX ix_{name} ON {name} (c)")
    (finding,) = foreign_keys(shared_database.context)
    shared_database.run(str(finding.sql))
    assert list(foreign_keys(shared_database.context)) == []


def test_keys_to_itself_and_to_other_schemas_are_found(database: IndexDatabase) -> None:
    database.run(
        'CREATE SCHEMA "Odd one"',
        'CREATE TABLE "Odd one".itself ("the id" int PRIMARY KEY, "up ""there""" int REFERENCES "Odd one".itself)',
    )
    (finding,) = foreign_keys(database.context)
    database.run(str(finding.sql))
    assert list(foreign_keys(database.context)) == []


def test_partitioned_table_has_one_finding(shared_database: IndexDatabase) -> None:
    shared_database.run(
        PARENT,
        "CREATE TABLE children (b int REFERENCES parents (b), day int) PARTITION BY LIST (day)",
        "CREATE TABLE children_1 PARTITION OF children FOR VALUES IN (1)",
        "CREATE TABLE children_2 PARTITION OF children FOR VALUES IN (2)",
        "CREATE INDEX ON children_1 (b)",
    )
    (finding,) = foreign_keys(shared_database.context)
    assert finding.evidence["partitions"] == ["public.children_2"]
    shared_database.run(str(finding.sql))
    assert list(foreign_keys(shared_database.context)) == []


def test_invalid_index_supports_no_key(shared_database: IndexDatabase) -> None:
    shared_database.run(PARENT, SINGLE, "CREATE INDEX it ON children (b)")
    shared_database.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'it'::regclass")
    assert len(list(foreign_keys(shared_database.context))) == 1


def test_keys_of_different_types_use_the_operator_family(shared_database: IndexDatabase) -> None:
    shared_database.run(
        PARENT, "CREATE TABLE children (b bigint REFERENCES parents (b))", "CREATE INDEX it ON children (b)"
    )
    assert list(foreign_keys(shared_database.context)) == []
