"""Invalid indexes: an interrupted build or drop left them, and PostgreSQL does not use them."""

import re
from collections.abc import Iterator

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.indexes.declared import is_declared
from ops.indexes.findings import PLAN, IndexFinding, drop_step, index_finding, rebuild_step, without_steps
from ops.indexes.in_progress import broken_indexes
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes
from ops.levels import Level

CHECK = "indexes.invalid"
NAME_BYTES = 63  # PostgreSQL cuts longer names

# The names that REINDEX CONCURRENTLY gives to the new index and to the replaced one.
_COPY_NAME = re.compile(r"(?P<base>.+)_cc(?:new|old)\d*", re.DOTALL)


@check(CHECK, "Are there invalid indexes, left by an interrupted build or drop?", severity=Level.CRITICAL)
def invalid(context: CheckContext) -> Iterator[Finding]:
    """Find invalid indexes, except those that a session still builds, rebuilds or drops."""
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(context: CheckContext, snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    """Find invalid indexes, with the step that drops or rebuilds each.

    Only copies of REINDEX CONCURRENTLY are dropped. All others are rebuilt, because they were created on purpose, apart
    from unique indexes that no model declares: duplicate rows may stop each rebuild.
    """
    for index in broken_indexes(context, snapshot):
        original = reindexed_original(index, snapshot)
        needed = index.is_unique or is_declared(index)
        evidence = {
            "index": index.sql_name,
            "table": index.sql_table,
            "bytes": index.bytes,
            "valid": index.is_valid,
            "ready": index.is_ready,
            "live": index.is_live,
        }
        if original is not None:
            yield index_finding(
                Level.WARNING,
                f"{index.sql_name} was left behind by a failed REINDEX CONCURRENTLY of {original.sql_name}; queries do"
                f" not use it{', but every write updates it' if index.is_ready else ''}.",
                evidence,
                step=drop_step(CHECK, index),
                remedy=PLAN,
            )
        elif index.is_partitioned:
            yield index_finding(
                Level.CRITICAL if needed else Level.WARNING,
                f"{index.sql_name} on the partitioned table {index.sql_table} is invalid: some partitions have no index"
                " attached to it.",
                evidence,
                remedy=f"Which partitions lack it? Build it there, then ALTER INDEX {index.sql_name} ATTACH PARTITION",
            )
        elif not index.is_live:
            yield index_finding(
                Level.WARNING,
                f"{index.sql_name} has been half dropped: the drop was interrupted, and queries do not use it.",
                evidence,
                sql=f"DROP INDEX CONCURRENTLY {index.sql_name};",
                remedy="Was the drop intended? If so, finish it by hand; no plan includes it",
            )
        elif index.is_unique and not is_declared(index) and index.constraint is None:
            # Rebuilding it fails for as long as there are duplicates, and no model says that there must be none.
            yield index_finding(
                Level.CRITICAL,
                f"{index.sql_name} on {index.sql_table} is unique and invalid: its build was interrupted, or stopped by"
                " duplicate rows. Queries do not use it, and it may refuse rows.",
                evidence,
                sql=f"DROP INDEX CONCURRENTLY {index.sql_name};",
                remedy="Does anything need it? Then correct the duplicate rows, and rebuild it; if not, drop it",
            )
        else:
            yield index_finding(
                Level.CRITICAL if needed else Level.WARNING,
                f"{index.sql_name} on {index.sql_table} is invalid: its build or drop was interrupted, and queries do"
                " not use it.",
                evidence,
                step=rebuild_step(CHECK, index),
                remedy=PLAN
                if index.rebuild
                else "Can its constraint be dropped and added again? REINDEX would block writes",
            )


def reindexed_original(index: Index, snapshot: IndexSnapshot) -> Index | None:
    """Return the index of which `index` is a copy left by REINDEX CONCURRENTLY; None if it is no such copy.

    A copy is invalid, has the original's name with a suffix, and the same definition. The original may be invalid too.
    """
    match = _COPY_NAME.fullmatch(index.name)
    if match is None or index.is_valid or index.constraint is not None:
        return None
    base, is_cut = match["base"], len(index.name.encode()) >= NAME_BYTES - 1
    for other in snapshot.of(index.table_oid):
        is_base = other.name == base or (is_cut and other.name.startswith(base))
        if other.oid != index.oid and is_base and _have_same_definition(index, other):
            return other
    return None


def _have_same_definition(one: Index, other: Index) -> bool:
    return (one.method, one.keys, one.included, one.predicate, one.is_unique) == (
        other.method,
        other.keys,
        other.included,
        other.predicate,
        other.is_unique,
    )
