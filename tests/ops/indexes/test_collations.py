"""A collation library of another version than the one that an index was ordered by."""

from ops.checks.indexes.collations import collations
from ops.levels import Level
from tests.ops.indexes.conftest import House

OLD = "UPDATE pg_collation SET collversion = '0.1' WHERE collname = '{}'"


def versioned(house: House) -> str:
    """A collation that has a version: which there are is up to whoever built PostgreSQL."""
    names = (
        "SELECT collname FROM pg_collation WHERE collprovider <> 'd' AND pg_collation_actual_version(oid) IS NOT NULL"
    )
    return str(house.value(f"{names} ORDER BY collname LIMIT 1"))


def test_nothing_has_changed(house: House) -> None:
    name = versioned(house)
    house.run(f'CREATE TABLE things (t text COLLATE "{name}")', "CREATE INDEX ON things (t)")
    assert list(collations(house.probe)) == []


def test_an_index_in_a_collation_that_changed_is_critical_and_can_be_mended(house: House) -> None:
    name = versioned(house)
    house.run(f'CREATE TABLE things (t text COLLATE "{name}", n int)', "CREATE INDEX ON things (n, t)")
    house.run("CREATE INDEX ON things (n)", 'CREATE INDEX ON things (t COLLATE "C")', OLD.format(name))
    (finding,) = collations(house.probe)
    assert (finding.level, finding.evidence["indexes"]) == (Level.CRITICAL, ["public.things_n_t_idx"])
    for statement in str(finding.sql).split(";\n"):
        house.run(statement)
    assert list(collations(house.probe)) == []


def test_a_collation_that_orders_nothing_does_not_matter(house: House) -> None:
    house.run(OLD.format(versioned(house)))
    assert list(collations(house.probe)) == []


def test_the_databases_own_collation_counts_for_all_text(house: House) -> None:
    house.run("CREATE TABLE things (t text)", "CREATE INDEX things_t ON things (t)")
    house.run("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = current_database()")
    actual = house.value(
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()"
    )
    findings = list(collations(house.probe))
    if actual is None:  # the C library's "C" has no version
        assert findings == []
    else:
        (finding,) = findings
        assert {"public.things_t", "public.uq_users_email"} <= set(finding.evidence["indexes"])
        assert "REFRESH COLLATION VERSION" in str(finding.sql)
