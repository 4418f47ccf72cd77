"""Indexes that were ordered by another version of the collation library than the one there is now.

PostgreSQL orders text by the C library or ICU. A new version of those may order it differently, and an index from
before then misses rows, without any error. PostgreSQL notes the version when a database or a collation is made; the
builtin provider and "C" never change.
"""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.indexes.reading import read
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

# 100 is the oid of the collation that stands for the database's own.
VERSIONS = Statement(
    "ops.collations",
    """
SELECT 100 AS oid, quote_ident(datname) AS sql_name, 'DATABASE' AS kind, 'COLLATION VERSION' AS what,
       datcollversion AS noted,
       pg_database_collation_actual_version(oid) AS actual
  FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.collname), 'COLLATION', 'VERSION', c.collversion,
       pg_collation_actual_version(c.oid)
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collprovider <> 'd' AND c.collversion IS NOT NULL AND c.oid IN (SELECT unnest(indcollation) FROM pg_index)""",
)


def collations(probe: Probe) -> Iterator[Finding]:
    """Every collation that indexes are ordered by and that is of another version now; they are named."""
    changed = [
        row
        for row in VERSIONS.all(probe.connection, {})
        if row.noted is not None and row.actual is not None and row.noted != row.actual
    ]
    if not changed:
        return
    reading = read(probe)
    yield from reading.unread()
    for row in changed:
        indexes = [index for index in reading.indexes if row.oid in index.collations and not index.is_partitioned]
        if indexes:
            rebuilt = [each.rebuild or f"REINDEX INDEX {each.sql_name}" for each in indexes]
            yield Finding(
                level=Level.CRITICAL,
                what=f"{len(indexes)} indexes were ordered by version {row.noted} of the collation of"
                f" {row.kind.lower()} {row.sql_name}, and it is {row.actual} now: searches in them may miss rows.",
                evidence={"indexes": [index.sql_name for index in indexes], "noted": row.noted, "actual": row.actual},
                remedy="See which are wrong (flask ops index check --only indexes.corruption); rebuild all of them, and"
                " only then have the new version noted",
                sql=";\n".join([*rebuilt, f"ALTER {row.kind} {row.sql_name} REFRESH {row.what}"]) + ";",
            )
