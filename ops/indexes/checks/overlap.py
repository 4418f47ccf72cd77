"""Indexes that another index makes needless: duplicates and left prefixes.

Compared are the method, columns and expressions, operator classes with their options, collations, directions and the
condition. INCLUDE columns are not keys: (a) INCLUDE (b) supports fewer searches than (a, b), so it is neither its
duplicate nor covered by it. (a) INCLUDE (b) covers (a). A partial index covers only one with the same condition.
"""

from collections.abc import Iterator

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.indexes.declared import is_declared
from ops.indexes.findings import BY_HAND, PLAN, IndexFinding, drop_step, index_finding, without_steps
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes
from ops.levels import Level

DUPLICATE = "indexes.duplicate"
REDUNDANT = "indexes.redundant"


@check(DUPLICATE, "Are there duplicate indexes?", severity=Level.WARNING)
def duplicate(context: CheckContext) -> Iterator[Finding]:
    """Find indexes that are the same as another one."""
    snapshot = read_indexes(context)
    yield from without_steps(duplicate_findings(snapshot))
    yield from snapshot.unreadable()


@check(REDUNDANT, "Are there indexes that another index makes redundant?", severity=Level.WARNING)
def redundant(context: CheckContext) -> Iterator[Finding]:
    """Find indexes whose columns are the first columns of another one."""
    snapshot = read_indexes(context)
    yield from without_steps(redundant_findings(snapshot))
    yield from snapshot.unreadable()


def duplicate_findings(snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    """Find duplicates. The most valuable one is kept: see `_value`."""
    for indexes in _by_table(snapshot):
        kept: list[Index] = []
        for index in sorted(indexes, key=_value, reverse=True):
            twin = next((other for other in kept if _are_same(index, other)), None)
            if twin is None:
                kept.append(index)
            else:
                yield _finding(DUPLICATE, index, twin, "the same as")


def redundant_findings(snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    """Find covered indexes, and name the widest that covers each.

    A unique index is never redundant, because it is also a constraint. Duplicates are left to the other check.
    """
    for indexes in _by_table(snapshot):
        for index in indexes:
            if index.is_unique:
                continue
            wider = [other for other in indexes if other.oid != index.oid and _covers(other, index)]
            duplicates = [other for other in indexes if _value(other) > _value(index) and _are_same(index, other)]
            if wider and not duplicates:
                widest = max(wider, key=lambda other: (other.key_count, len(other.included), _value(other)))
                yield _finding(REDUNDANT, index, widest, "covered by")


def dependent_of(index: Index) -> str | None:
    """Return what depends on this index apart from queries; None if nothing does."""
    if index.constraint:
        return f"the constraint {index.constraint}"
    if index.is_referenced:
        return "a foreign key that references it"
    if index.is_replica_identity:
        return "logical replication, as replica identity"
    if index.is_attached:
        return "the index of its partitioned table"
    if is_declared(index):
        return "Parley's models, which declare it"
    if index.is_clustered:
        return "CLUSTER, which sorts the table by it"
    return None


def _by_table(snapshot: IndexSnapshot) -> Iterator[list[Index]]:
    tables: dict[int, list[Index]] = {}
    for index in snapshot.indexes:
        if index.is_usable and not index.is_toast and not index.is_exclusion:
            tables.setdefault(index.table_oid, []).append(index)
    yield from tables.values()


def _are_same(one: Index, other: Index) -> bool:
    """Return whether both support the same searches and, if both are unique, the same constraint."""
    same_search = (one.method, one.keys, one.included, one.predicate) == (
        other.method,
        other.keys,
        other.included,
        other.predicate,
    )
    both_unique = one.is_unique and other.is_unique
    return same_search and (not both_unique or _uniqueness(one) == _uniqueness(other))


def _uniqueness(index: Index) -> tuple[bool, bool]:
    return index.nulls_not_distinct, index.is_immediate


def _covers(wide: Index, narrow: Index) -> bool:
    """Return whether `wide` supports every search that `narrow` supports, and more."""
    return not _are_same(wide, narrow) and (
        wide.method == narrow.method == "btree"
        and wide.predicate == narrow.predicate
        and wide.keys[: narrow.key_count] == narrow.keys
        and narrow.included <= wide.included
    )


def _value(index: Index) -> tuple[bool, bool, int, int]:
    """Return a sort key, higher for what must stay: unique, needed by something else, scanned often, older."""
    return (index.is_unique, dependent_of(index) is not None, index.scans, -index.oid)


def _finding(check_id: str, spare: Index, kept: Index, relation: str) -> IndexFinding:
    message = f"{spare.sql_name} is {relation} {kept.sql_name}: every write to {spare.sql_table} updates both."
    evidence = {
        "index": spare.sql_name,
        "other": kept.sql_name,
        "definition": spare.definition,
        "other_definition": kept.definition,
        "bytes": spare.bytes,
        "scans": spare.scans,
    }
    dependent = dependent_of(spare)
    if dependent is None:
        step = drop_step(check_id, spare, relies_on=kept)
        return index_finding(Level.WARNING, message, evidence, step=step, remedy=PLAN if step else BY_HAND)
    if dependent_of(kept) is None and check_id == REDUNDANT:
        remedy = f"It is needed by {dependent}. Is {kept.sql_name} worth its size?"
    else:
        remedy = f"It is needed by {dependent}. Which of the two can be dropped?"
    return index_finding(Level.WARNING, message, evidence, remedy=remedy)
