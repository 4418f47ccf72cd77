"""Indexes built with another version of the collation library than the present one.

PostgreSQL sorts text with the C library or ICU. A new version may sort differently, and searches in an older index then
miss rows without an error. PostgreSQL records the version when a database or a collation is created; the builtin
provider and "C" never change.
"""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.indexes.snapshot import read_indexes
from ops.levels import Level

# 100 is the oid of the collation "default", the database's own.
VERSIONS = Statement(
    "ops.collations",
    """
SELECT 100 AS oid, quote_ident(datname) AS sql_name, 'DATABASE' AS kind, 'COLLATION VERSION' AS object,
       datcollversion AS recorded,
       pg_database_collation_actual_version(oid) AS actual
  FROM pg_database WHERE datname = current_database()
UNION ALL
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.collname), 'COLLATION', 'VERSION', c.collversion,
       pg_collation_actual_version(c.oid)
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collprovider <> 'd' AND c.collversion IS NOT NULL AND c.oid IN (SELECT unnest(indcollation) FROM pg_index)""",
)


@check(
    "indexes.collations", "Are there indexes built with another version of their collation?", severity=Level.CRITICAL
)
def collations(context: CheckContext) -> Iterator[Finding]:
    """Find collations whose version has changed since indexes were built with it, and name those indexes."""
    changed = [
        row
        for row in VERSIONS.all(context.connection, {})
        if row.recorded is not None and row.actual is not None and row.recorded != row.actual
    ]
    if not changed:
        return
    snapshot = read_indexes(context)
    yield from snapshot.unreadable()
    for row in changed:
        indexes = [index for index in snapshot.indexes if row.oid in index.collations and not index.is_partitioned]
        if indexes:
            rebuilds = [index.rebuild or f"REINDEX INDEX {index.sql_name}" for index in indexes]
            yield Finding(
                level=Level.CRITICAL,
                message=f"{len(indexes)} indexes were built with version {row.recorded} of the collation of"
                f" {row.kind.lower()} {row.sql_name}, which is now {row.actual}: searches in them may miss rows.",
                object=row.sql_name,
                evidence={
                    "indexes": [index.sql_name for index in indexes],
                    "recorded": row.recorded,
                    "actual": row.actual,
                },
                remedy="Rebuild all of them, and then let PostgreSQL record the new version. Which are wrong already?"
                " flask ops doctor --only indexes.corruption",
                sql=";\n".join([*rebuilds, f"ALTER {row.kind} {row.sql_name} REFRESH {row.object}"]) + ";",
            )
