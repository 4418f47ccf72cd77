"""Indexes that PostgreSQL does not use, because whoever built or dropped them did not come to the end."""

import re
from collections.abc import Iterator

from ops.checks.indexes.cases import PLAN, Case, case, drop, findings, rebuild
from ops.checks.indexes.declared import is_declared
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.indexes.work import broken
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

CHECK = "indexes.invalid"
NAME_BYTES = 63  # PostgreSQL cuts longer names

# What REINDEX CONCURRENTLY calls the index that it builds, and the one that it has replaced.
_LEFTOVER = re.compile(r"(?P<base>.+)_cc(?:new|old)\d*", re.DOTALL)


def invalid(probe: Probe) -> Iterator[Finding]:
    """Every index that is not valid, unless a session is still building, rebuilding or dropping it."""
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading) -> Iterator[Case]:
    """Only what REINDEX CONCURRENTLY left behind is planned to be dropped. Everything else is built anew: whoever made
    it wanted it, and a name proves nothing."""
    for index in broken(probe, reading):
        original = leftover_of(index, reading)
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
            yield case(
                Level.WARNING,
                f"{index.sql_name} is what a REINDEX CONCURRENTLY of {original.sql_name} left behind when it failed;"
                f" queries do not use it{', and every write pays for it' if index.is_ready else ''}.",
                evidence,
                step=drop(CHECK, index),
                remedy=PLAN,
            )
        elif index.is_partitioned:
            yield case(
                Level.CRITICAL if needed else Level.WARNING,
                f"{index.sql_name} on the partitioned table {index.sql_table} is not valid: not every partition has it"
                " attached.",
                evidence,
                remedy=f"Build it on each partition, then ALTER INDEX {index.sql_name} ATTACH PARTITION of each.",
            )
        elif not index.is_live:
            yield case(
                Level.WARNING,
                f"{index.sql_name} was being dropped, and that was cut off: it serves nothing.",
                evidence,
                sql=f"DROP INDEX CONCURRENTLY {index.sql_name};",
                remedy="Finish it by hand, once you know who wanted it gone; no plan drops it.",
            )
        else:
            yield case(
                Level.CRITICAL if needed else Level.WARNING,
                f"{index.sql_name} on {index.sql_table} is not valid: its build or its drop was cut off, and queries do"
                " not use it.",
                evidence,
                step=rebuild(CHECK, index),
                remedy=PLAN if index.rebuild else "Drop its constraint and add it again; REINDEX would block writes.",
            )


def leftover_of(index: Index, reading: Reading) -> Index | None:
    """The index of which `index` is an abandoned copy, if it is one: named as REINDEX CONCURRENTLY names it, not valid,
    and the same columns on the same table as the index with the rest of its name. That one may be broken as well."""
    found = _LEFTOVER.fullmatch(index.name)
    if found is None or index.is_valid or index.constraint is not None:
        return None
    base, cut = found["base"], len(index.name.encode()) >= NAME_BYTES - 1
    for other in reading.of(index.table_oid):
        named = other.name == base or (cut and other.name.startswith(base))
        if other.oid != index.oid and named and _alike(index, other):
            return other
    return None


def _alike(one: Index, other: Index) -> bool:
    return (one.method, one.keys, one.included, one.predicate, one.is_unique) == (
        other.method,
        other.keys,
        other.included,
        other.predicate,
        other.is_unique,
    )
