"""Invalid indexes that a session still builds, rebuilds or drops, as opposed to broken ones.

CREATE INDEX CONCURRENTLY is in pg_stat_progress_create_index. For sessions of other roles, the view hides the index
unless this role may read all statistics; then the session's lock on the table identifies the build. REINDEX and DROP
INDEX CONCURRENTLY lock the index itself until they end. The locks end with the session.
"""

from collections.abc import Sequence

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes

# Index oids; for hidden builds, the oids of the tables that their sessions have locked in the mode of a build.
IN_PROGRESS = Statement(
    "ops.indexes_in_progress",
    """
WITH held AS (
    SELECT pid, relation FROM pg_locks
     WHERE locktype = 'relation' AND mode IN ('ShareUpdateExclusiveLock', 'AccessExclusiveLock')
       AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
building AS (
    SELECT pid, nullif(index_relid, 0) AS index_oid FROM pg_stat_progress_create_index
     WHERE datname = current_database())
SELECT index_oid AS oid, false AS is_table FROM building WHERE index_oid IS NOT NULL
UNION SELECT held.relation, false FROM held JOIN pg_index ON indexrelid = held.relation
UNION SELECT held.relation, true FROM held JOIN building USING (pid) WHERE building.index_oid IS NULL""",
)


def broken_indexes(context: CheckContext, snapshot: IndexSnapshot) -> Sequence[Index]:
    """Return the invalid indexes of `snapshot` on which no session works.

    They are read again afterwards: a session that ended since the snapshot left a valid index, or none.
    """
    suspects = [index for index in snapshot.indexes if not index.is_usable]
    if not suspects:
        return ()
    in_progress = IN_PROGRESS.all(context.connection, {})
    indexes = {row.oid for row in in_progress if not row.is_table}
    tables = {row.oid for row in in_progress if row.is_table}
    idle = {index.oid for index in suspects if index.oid not in indexes and index.table_oid not in tables}
    if not idle:
        return ()
    return [index for index in read_indexes(context).indexes if index.oid in idle and not index.is_usable]
