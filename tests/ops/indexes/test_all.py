"""All index checks together, on an intact database and with unusual tables."""

from collections.abc import Callable

import pytest

from ops.checks.declaration import Check
from ops.checks.findings import Finding
from ops.doctor.index_registry import INDEX_CHECKS
from ops.errors import UnknownState
from tests.ops.indexes.conftest import IndexDatabase


def findings_of(check: Check, database: IndexDatabase) -> list[Finding]:
    try:
        return list(check.function(database.context))
    except UnknownState as error:
        return pytest.fail(f"{check.id}: {error.reason}")


def test_fresh_tables_have_no_findings(database: IndexDatabase) -> None:
    assert {check.id: found for check in INDEX_CHECKS if (found := findings_of(check, database))} == {}


STRANGE = (
    'CREATE SCHEMA "Other; schema"',
    'CREATE TABLE "Other; schema"."a ""quoted"" table" ("the id" int PRIMARY KEY, "select" text, "Ünïcödé" int)',
    'CREATE INDEX "an index "" ON WHERE % %s :x" ON "Other; schema"."a ""quoted"" table" (lower("select"), "Ünïcödé")'
    " WHERE \"select\" <> ' ON WHERE % %(x)s INDEX '",
    'CREATE INDEX "i\n2" ON "Other; schema"."a ""quoted"" table" USING hash ("Ünïcödé")',
    "CREATE TABLE parted (id int, day date, other int REFERENCES parted_to) PARTITION BY RANGE (day)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (id)",
    "CREATE TABLE parted_2_1 PARTITION OF parted_2 DEFAULT",
    "CREATE INDEX ON parted (other)",
    "ALTER TABLE parted ADD PRIMARY KEY (id, day)",
    "CREATE UNLOGGED TABLE unlogged (id serial PRIMARY KEY, b box)",
    "CREATE INDEX ON unlogged USING gist (b)",
    "CREATE INDEX ON unlogged USING spgist (b)",
    "CREATE INDEX ON unlogged USING brin (id)",
    "CREATE TABLE excluded (during tstzrange, EXCLUDE USING gist (during WITH &&))",
    "CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one",
    "CREATE UNIQUE INDEX ON seen (one)",
    "CREATE VIEW users_seen AS SELECT id FROM users",
    "CREATE TABLE empty ()",
    'CREATE TABLE itself (id int PRIMARY KEY, up int REFERENCES itself, name text COLLATE "C")',
    "CREATE INDEX ON itself (up, id)",
    "CREATE INDEX ON itself USING gin (to_tsvector('simple', name))",
    "CREATE STATISTICS related ON id, up FROM itself",
    "CREATE TABLE " + '"' + "x" * 63 + '" (' + '"' + "y" * 63 + '" int PRIMARY KEY)',
    "CREATE TYPE mood AS ENUM ('good')",
    "CREATE TABLE moods (m mood, a int[], j jsonb, UNIQUE NULLS NOT DISTINCT (m, a))",
    "CREATE INDEX ON moods USING gin (j jsonb_path_ops)",
    "CREATE DOMAIN whole AS int CHECK (VALUE > 0)",
    "CREATE TABLE domains (w whole PRIMARY KEY)",
    "INSERT INTO itself VALUES (1, 1, 'x')",
    "ANALYZE",
)


def test_unusual_foreign_tables_have_no_findings(database: IndexDatabase) -> None:
    database.run("CREATE TABLE parted_to (id int PRIMARY KEY)", *STRANGE)
    temporary = database.open()
    temporary.exec_driver_sql("CREATE TEMP TABLE passing (id int PRIMARY KEY, other int REFERENCES passing)")
    temporary.exec_driver_sql("CREATE INDEX passing_twice ON passing (id)")
    assert {check.id: found for check in INDEX_CHECKS if (found := findings_of(check, database))} == {}


def test_unusual_names_are_quoted_in_sql(database: IndexDatabase) -> None:
    database.run(*STRANGE[:3])
    database.run(
        'CREATE INDEX "twin "" %" ON "Other; schema"."a ""quoted"" table" (lower("select"), "Ünïcödé")'
        " WHERE \"select\" <> ' ON WHERE % %(x)s INDEX '"
    )
    (finding,) = findings_of(next(check for check in INDEX_CHECKS if check.id == "indexes.duplicate"), database)
    assert finding.sql is not None
    database.run(finding.sql)
    assert findings_of(next(check for check in INDEX_CHECKS if check.id == "indexes.duplicate"), database) == []


def test_unprivileged_role_gets_a_remedy_from_each_check(
    database: IndexDatabase, drop_privileges: Callable[[], None]
) -> None:
    drop_privileges()
    silent = [check.id for check in INDEX_CHECKS if not all(_remedies(check, database))]
    assert silent == []


def _remedies(check: Check, database: IndexDatabase) -> list[str | None]:
    try:
        return [finding.remedy for finding in check.function(database.context)]
    except UnknownState as error:
        return [error.remedy]
