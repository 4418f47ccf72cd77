"""Indexes built with another version of their collation."""

from ops.indexes.checks.collations import collations
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase

OLD = "UPDATE pg_collation SET collversion = '0.1' WHERE collname = '{}'"


def versioned(database: IndexDatabase) -> str:
    """Return a collation with a version; which ones exist depends on PostgreSQL's build."""
    names = (
        "SELECT collname FROM pg_collation WHERE collprovider <> 'd' AND pg_collation_actual_version(oid) IS NOT NULL"
    )
    return str(database.value(f"{names} ORDER BY collname LIMIT 1"))


def test_unchanged_collation_has_no_finding(database: IndexDatabase) -> None:
    name = versioned(database)
    database.run(f'CREATE TABLE things (t text COLLATE "{name}")', "CREATE INDEX ON things (t)")
    assert list(collations(database.context)) == []


def test_index_of_a_changed_collation_is_critical_until_rebuilt(database: IndexDatabase) -> None:
    name = versioned(database)
    database.run(f'CREATE TABLE things (t text COLLATE "{name}", n int)', "CREATE INDEX ON things (n, t)")
    database.run("CREATE INDEX ON things (n)", 'CREATE INDEX ON things (t COLLATE "C")', OLD.format(name))
    (finding,) = collations(database.context)
    assert (finding.level, finding.evidence["indexes"]) == (Level.CRITICAL, ["public.things_n_t_idx"])
    for statement in str(finding.sql).split(";\n"):
        database.run(statement)
    assert list(collations(database.context)) == []


def test_changed_collation_without_indexes_is_ignored(database: IndexDatabase) -> None:
    database.run(OLD.format(versioned(database)))
    assert list(collations(database.context)) == []


def test_default_collation_applies_to_all_text_indexes(database: IndexDatabase) -> None:
    database.run("CREATE TABLE things (t text)", "CREATE INDEX things_t ON things (t)")
    database.run("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = current_database()")
    actual = database.value(
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()"
    )
    findings = list(collations(database.context))
    if actual is None:  # "C" has no version
        assert findings == []
    else:
        (finding,) = findings
        assert {"public.things_t", "public.uq_users_email"} <= set(finding.evidence["indexes"])
        assert "REFRESH COLLATION VERSION" in str(finding.sql)
