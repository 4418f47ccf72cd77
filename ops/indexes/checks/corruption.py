"""Corrupt indexes: with damaged pages, or entries out of order.

amcheck's `bt_index_check` reads every page of a B-tree under ACCESS SHARE, as a SELECT does: reads and writes continue.
`bt_index_parent_check` finds more, but blocks writes, so it is never called here.
"""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from app.database import driver_message, sqlstate
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.extensions import require_extension
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.indexes.findings import PLAN, IndexFinding, index_finding, rebuild_step, without_steps
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes
from ops.levels import Level
from ops.runs.batches import TimeBudget

CHECK = "indexes.corruption"
SECONDS = 60.0  # for all indexes together
COMPARED_BYTES = 200_000_000  # up to this size, the table is read too, to check that the index has all of its rows
LOCK = "ACCESS SHARE on the index and its table: reads and writes continue"

# SQLSTATEs (PostgreSQL manual, appendix A). Damage: data_corrupted, index_corrupted, and io_error and undefined_file
# for a file that is unreadable or missing.
_DAMAGE = {"XX001", "XX002", "58030", "58P01"}
_AMCHECK = "verify_nbtree.c"  # the source file in errors that amcheck itself raises, in every language
_DENIED, _DROPPED, _TIMED_OUT = "42501", {"42P01", "42704", "0A000"}, {"57014", "55P03"}


@check(CHECK, "Are there corrupt indexes?", severity=Level.CRITICAL, thorough=True)
def corruption(context: CheckContext) -> Iterator[Finding]:
    """Find corrupt B-trees, smallest first. Those that the time did not suffice for have the level UNKNOWN.

    Raises `UnknownState` without the extension amcheck or the privilege to call it.
    """
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(
    context: CheckContext, snapshot: IndexSnapshot, *, only: str | None = None, seconds: float = SECONDS
) -> Iterator[IndexFinding]:
    """Find corrupt indexes within `seconds`. `only` is the SQL name of one index to check."""
    indexes = [index for index in snapshot.indexes if _is_checkable(index) and only in (None, index.sql_name)]
    if not indexes:
        return
    schema = require_extension(context, "amcheck", "Only amcheck can find corrupt indexes")
    budget, unchecked = TimeBudget(seconds), list[Index]()
    with context.statement_timeout(timedelta(seconds=seconds)):
        for index in sorted(indexes, key=lambda index: index.bytes):
            if budget.expired:
                unchecked.append(index)
                continue
            try:
                found = _check_index(context, schema, index)
            except DBAPIError as error:
                code = sqlstate(error)
                if code == _DENIED:
                    raise UnknownState("This role may not call amcheck.", remedy=_grant(schema)) from error
                if code in _TIMED_OUT:
                    unchecked.append(index)
                elif code not in _DROPPED:
                    raise
            else:
                yield from found
    if unchecked:
        yield IndexFinding(_unchecked_finding(unchecked, seconds))


def _check_index(context: CheckContext, schema: str, index: Index) -> list[IndexFinding]:
    """Check the index alone, then against its table: an error of the second check may be damage of the table."""
    for with_table in (False, True)[: 2 if index.table_bytes <= COMPARED_BYTES else 1]:
        amcheck = Statement("ops.amcheck", f"SELECT {schema}.bt_index_check(%(oid)s::regclass, %(with_table)s)")
        try:
            amcheck.all(context.connection, {"oid": index.oid, "with_table": with_table})
        except DBAPIError as error:
            code, message = sqlstate(error), driver_message(error)
            if code not in _DAMAGE or "$libdir" in message:
                raise
            raised_by_amcheck = getattr(getattr(error.orig, "diag", None), "source_file", None) == _AMCHECK
            if raised_by_amcheck or not with_table:
                return [_index_finding(index, message)]
            return [_table_finding(index, message)]
    return []


def _is_checkable(index: Index) -> bool:
    return index.method == "btree" and index.is_usable and not index.is_partitioned


def _grant(schema: str) -> str:
    return f"As a superuser: GRANT EXECUTE ON FUNCTION {schema}.bt_index_check(regclass, boolean) TO this role"


def _table_finding(index: Index, error: str) -> IndexFinding:
    return index_finding(
        Level.CRITICAL,
        f"{index.sql_table} cannot be read completely: the table itself is damaged.",
        {"table": index.sql_table, "index": index.sql_name, "error": error},
        remedy="Which backup is older than the damage? Stop writing to the table, and restore it from there",
    )


def _index_finding(index: Index, error: str) -> IndexFinding:
    return index_finding(
        Level.CRITICAL,
        f"{index.sql_name} on {index.sql_table} is corrupt: searches in it may miss rows or fail.",
        {"index": index.sql_name, "table": index.sql_table, "bytes": index.bytes, "error": error, "lock": LOCK},
        step=rebuild_step(CHECK, index),
        remedy=f"{PLAN}. What was the cause: the disk, the server's log, a new version of the collation library?",
    )


def _unchecked_finding(indexes: list[Index], seconds: float) -> Finding:
    return Finding(
        object="unchecked",
        level=Level.UNKNOWN,
        message=f"{len(indexes)} indexes, from {indexes[0].sql_name} on, were not checked within {seconds:g} s.",
        evidence={"indexes": [index.sql_name for index in indexes], "bytes": sum(index.bytes for index in indexes)},
        remedy="Can they be checked at a quiet time? pg_amcheck --index=NAME DATABASE, for each of them",
    )
