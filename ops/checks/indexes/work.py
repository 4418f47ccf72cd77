"""Which invalid indexes somebody is at work on: they are not broken, they are not done yet.

CREATE INDEX CONCURRENTLY shows in pg_stat_progress_create_index. Of another role's session that view hides which index
it is unless one may read all statistics; then the lock it holds on the table says enough. REINDEX and DROP INDEX
CONCURRENTLY lock the index itself, from the first moment to the last. All of this is over when their session is.
"""

from collections.abc import Sequence

from app.repositories.statement import Statement
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.probe import Probe

# Index and table oids; of a hidden build only the tables that its session has locked as a build does.
AT_WORK = Statement(
    "ops.indexes_at_work",
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


def broken(probe: Probe, reading: Reading) -> Sequence[Index]:
    """The invalid indexes of `reading` that nobody is at work on.

    They are read a second time afterwards: whoever came to an end in between left a valid index, or none.
    """
    suspects = [index for index in reading.indexes if not index.serves]
    if not suspects:
        return ()
    at_work = AT_WORK.all(probe.connection, {})
    indexes = {row.oid for row in at_work if not row.is_table}
    tables = {row.oid for row in at_work if row.is_table}
    idle = {index.oid for index in suspects if index.oid not in indexes and index.table_oid not in tables}
    if not idle:
        return ()
    return [index for index in read(probe).indexes if index.oid in idle and not index.serves]
