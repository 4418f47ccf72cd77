"""Indexes whose pages are damaged, or no longer in the order that searches rely on.

amcheck's `bt_index_check` reads every page of a B-tree under ACCESS SHARE, as a SELECT does: reads and writes go on.
`bt_index_parent_check` finds more and blocks writes while it looks; nothing here ever calls it.
"""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from app.database import said
from app.repositories.statement import Statement
from ops.care.batches import TimeBox
from ops.checks.extensions import require
from ops.checks.indexes.cases import PLAN, Case, case, findings, rebuild
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

CHECK = "indexes.corruption"
SECONDS = 60.0  # for all indexes together
COMPARED_BYTES = 200_000_000  # a table up to this size is read as well: does the index have all of its rows?
LOCK = "ACCESS SHARE on the index and its table: reads and writes go on"

# SQLSTATEs (PostgreSQL manual, appendix A). Damage: data_corrupted, index_corrupted, and io_error and undefined_file of
# a file that cannot be read or is not there.
_DAMAGE = {"XX001", "XX002", "58030", "58P01"}
_AMCHECK = "verify_nbtree.c"  # where PostgreSQL says that amcheck's own complaints come from, in every language
_DENIED, _GONE, _LATE = "42501", {"42P01", "42704", "0A000"}, {"57014", "55P03"}


def corruption(probe: Probe) -> Iterator[Finding]:
    """Every B-tree that is damaged, the smallest looked at first; those that time did not suffice for are named.

    Raises `CannotJudge` without the extension amcheck, or the right to call it.
    """
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading, *, only: str | None = None, seconds: float = SECONDS) -> Iterator[Case]:
    """`only` is the SQL name of the one index to look at."""
    indexes = [index for index in reading.indexes if _can_be_read(index) and only in (None, index.sql_name)]
    if not indexes:
        return
    schema = require(probe, "amcheck", "Only amcheck can tell whether an index is damaged")
    time_box, left = TimeBox(seconds), list[Index]()
    with probe.patience(timedelta(seconds=seconds)):
        for index in sorted(indexes, key=lambda index: index.bytes):
            if time_box.over:
                left.append(index)
                continue
            try:
                found = _look(probe, schema, index)
            except DBAPIError as error:
                code = getattr(error.orig, "pgcode", None)
                if code == _DENIED:
                    raise CannotJudge("This role may not call amcheck.", remedy=_grant(schema)) from error
                if code in _LATE:
                    left.append(index)
                elif code not in _GONE:
                    raise
            else:
                yield from found
    if left:
        yield Case(_unread(left, seconds))


def _look(probe: Probe, schema: str, index: Index) -> list[Case]:
    """First the index alone, then whether it has all rows of its table: what fails only then may be the table's."""
    for whole in (False, True)[: 2 if index.table_bytes <= COMPARED_BYTES else 1]:
        check = Statement("ops.amcheck", f"SELECT {schema}.bt_index_check(%(oid)s::regclass, %(whole)s)")
        try:
            check.all(probe.connection, {"oid": index.oid, "whole": whole})
        except DBAPIError as error:
            code, told = getattr(error.orig, "pgcode", None), said(error)
            if code not in _DAMAGE or "$libdir" in told:
                raise
            compared = getattr(getattr(error.orig, "diag", None), "source_file", None) == _AMCHECK
            return [_case(index, told) if compared or not whole else _table(index, told)]
    return []


def _can_be_read(index: Index) -> bool:
    return index.method == "btree" and index.serves and not index.is_partitioned


def _grant(schema: str) -> str:
    return f"As a superuser: GRANT EXECUTE ON FUNCTION {schema}.bt_index_check(regclass, boolean) TO this role"


def _table(index: Index, error: str) -> Case:
    return case(
        Level.CRITICAL,
        f"{index.sql_table} cannot be read whole: the table itself is damaged.",
        {"table": index.sql_table, "index": index.sql_name, "error": error},
        remedy="Stop writing to it and restore it from a backup; building its indexes anew does not help.",
    )


def _case(index: Index, error: str) -> Case:
    return case(
        Level.CRITICAL,
        f"{index.sql_name} on {index.sql_table} is damaged: searches in it may miss rows or fail.",
        {"index": index.sql_name, "table": index.sql_table, "bytes": index.bytes, "error": error, "lock": LOCK},
        step=rebuild(CHECK, index),
        remedy=f"{PLAN}; then look for what damaged it: the disk, its log, a new version of the collation library",
    )


def _unread(left: list[Index], seconds: float) -> Finding:
    return Finding(
        level=Level.UNKNOWN,
        what=f"{len(left)} indexes were not looked at for damage within {seconds:g} s, from {left[0].sql_name} on.",
        evidence={"indexes": [index.sql_name for index in left], "bytes": sum(index.bytes for index in left)},
        remedy="Where it is quiet: pg_amcheck --index=NAME DATABASE, for each of them",
    )
