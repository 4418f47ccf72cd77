"""Indexes that say nothing that another does not say too: exact duplicates, and left prefixes.

Two indexes are compared by what PostgreSQL orders them by: method, columns and expressions, operator classes with their
settings, collations, directions, condition. Columns that an index only carries along (INCLUDE) are not part of that:
(a) INCLUDE (b) answers less than (a, b), so it is neither its duplicate nor covered by it: somebody chose it.
(a) INCLUDE (b) does cover (a). An index with a condition covers only one with the same condition.
"""

from collections.abc import Iterator

from ops.checks.indexes.cases import BY_HAND, PLAN, Case, case, drop, findings
from ops.checks.indexes.declared import is_declared
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

DUPLICATE = "indexes.duplicate"
REDUNDANT = "indexes.redundant"


def duplicate(probe: Probe) -> Iterator[Finding]:
    """Every index that is the same as another one."""
    reading = read(probe)
    yield from findings(duplicates(reading))
    yield from reading.unread()


def redundant(probe: Probe) -> Iterator[Finding]:
    """Every index whose columns are the first ones of another index."""
    reading = read(probe)
    yield from findings(prefixes(reading))
    yield from reading.unread()


def duplicates(reading: Reading) -> Iterator[Case]:
    """Of several alike the one that is worth most stays: a rule, or what something else depends on, or is read most."""
    for indexes in _by_table(reading):
        kept: list[Index] = []
        for index in sorted(indexes, key=_worth, reverse=True):
            twin = next((other for other in kept if _same(index, other)), None)
            if twin is None:
                kept.append(index)
            else:
                yield _case(DUPLICATE, index, twin, "the same as")


def prefixes(reading: Reading) -> Iterator[Case]:
    """A unique index is never covered: it is also a rule. Of several that cover, the widest is named: it stays."""
    for indexes in _by_table(reading):
        for index in indexes:
            wider = [each for each in indexes if each.oid != index.oid and not index.is_unique and _covers(each, index)]
            if wider and not any(_same(index, each) for each in indexes if _worth(each) > _worth(index)):
                widest = max(wider, key=lambda each: (each.key_count, len(each.included), _worth(each)))
                yield _case(REDUNDANT, index, widest, "covered by")


def held_by(index: Index) -> str | None:
    """What depends on this index being there, beside queries; None if nothing does."""
    if index.constraint:
        return f"the constraint {index.constraint}"
    if index.is_referenced:
        return "a foreign key that points to it"
    if index.is_replica_identity:
        return "logical replication, whose identity it is"
    if index.is_attached:
        return "the index of the partitioned table that it is part of"
    if is_declared(index):
        return "Parley's models, which declare it"
    if index.is_clustered:
        return "CLUSTER, which orders the table by it"
    return None


def _by_table(reading: Reading) -> Iterator[list[Index]]:
    tables: dict[int, list[Index]] = {}
    for index in reading.indexes:
        if index.serves and not index.is_toast and not index.is_exclusion:
            tables.setdefault(index.table_oid, []).append(index)
    yield from tables.values()


def _same(one: Index, other: Index) -> bool:
    """The same to read; where both are unique, also the same rule."""
    alike = (one.method, one.keys, one.included, one.predicate) == (
        other.method,
        other.keys,
        other.included,
        other.predicate,
    )
    rules = one.is_unique and other.is_unique
    return alike and (not rules or _rule(one) == _rule(other))


def _rule(index: Index) -> tuple[bool, bool]:
    return index.nulls_not_distinct, index.is_immediate


def _covers(wide: Index, narrow: Index) -> bool:
    """Whether whatever reads `narrow` may as well read `wide`, and they are not the same."""
    return not _same(wide, narrow) and (
        wide.method == narrow.method == "btree"
        and wide.predicate == narrow.predicate
        and wide.keys[: narrow.key_count] == narrow.keys
        and narrow.included <= wide.included
    )


def _worth(index: Index) -> tuple[bool, bool, int, int]:
    """What is worth least comes first: a rule is worth more than whatever else depends on an index."""
    return (index.is_unique, held_by(index) is not None, index.scans, -index.oid)


def _case(check: str, spare: Index, kept: Index, how: str) -> Case:
    what = f"{spare.sql_name} is {how} {kept.sql_name}: every write to {spare.sql_table} pays for both."
    evidence = {
        "index": spare.sql_name,
        "other": kept.sql_name,
        "definition": spare.definition,
        "other_definition": kept.definition,
        "bytes": spare.bytes,
        "scans": spare.scans,
    }
    holder = held_by(spare)
    if holder is None:
        step = drop(check, spare, relies_on=kept)
        return case(Level.WARNING, what, evidence, step=step, remedy=PLAN if step else BY_HAND)
    if held_by(kept) is None and check == REDUNDANT:
        remedy = f"It is held by {holder}: see whether {kept.sql_name} is worth its size."
    else:
        remedy = f"It is held by {holder}: decide by hand which of the two is to go."
    return case(Level.WARNING, what, evidence, remedy=remedy)
