"""Large indexes without a scan since the statistics began.

PostgreSQL counts since its statistics were reset or lost in a crash, and does not record when an index was created.
Scans on a replica are counted on the replica. So the check needs statistics that are old enough and include all
replicas. It ignores indexes that are needed for more than queries.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.statistics_age import counting_since
from ops.errors import UnknownState
from ops.indexes.age import created_since
from ops.indexes.checks.foreign_keys import ForeignKey, read_families, read_keys
from ops.indexes.checks.overlap import dependent_of
from ops.indexes.declared import is_declared
from ops.indexes.findings import BY_HAND, PLAN, IndexFinding, drop_step, index_finding, without_steps
from ops.indexes.replicas import with_replica_scans
from ops.indexes.snapshot import Index, IndexSnapshot, read_indexes
from ops.levels import Level

CHECK = "indexes.unused"
MIN_BYTES = 10_000_000
COUNTED_FOR = timedelta(days=14)  # includes the weekly jobs twice
NOT_USED_FOR = timedelta(days=90)  # where PostgreSQL records the last use of an index (16 and newer)

READERS = Statement(
    "ops.replicas",
    """
SELECT pg_is_in_recovery() AS is_replica,
       (SELECT count(*) FROM pg_stat_replication r
         WHERE r.state IS DISTINCT FROM 'backup'
           AND NOT EXISTS (SELECT FROM pg_replication_slots s
                            WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) AS connected,
       (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active) AS disconnected,
       now() AS now""",
)


@check(CHECK, "Are there large unused indexes?", severity=Level.WARNING)
def unused(context: CheckContext) -> Iterator[Finding]:
    """Find indexes of at least 10 MB that no query uses and nothing else needs.

    Raises `UnknownState` if there is a candidate and the statistics are too young or do not include all replicas.
    """
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(
    context: CheckContext, snapshot: IndexSnapshot, *, counted_for: timedelta | None = None
) -> Iterator[IndexFinding]:
    """Find unused indexes; `counted_for` is the minimum age of the statistics, `COUNTED_FOR` by default."""
    counted_for = COUNTED_FOR if counted_for is None else counted_for
    (readers,) = READERS.all(context.connection, {})
    idle = _idle(context, snapshot, readers.now)
    if not idle:
        return
    since = counting_since(context)
    url = context.settings.database.replica_url
    replicas = readers.connected + readers.disconnected
    _require_all_scans_counted(readers.is_replica, replicas, idle, has_replica_url=url is not None)
    if url is not None:
        snapshot, replica_since = with_replica_scans(context, snapshot, str(url))
        since, idle = max(since, replica_since), _idle(context, snapshot, readers.now)
    if idle and since > readers.now - counted_for:
        raise UnknownState(
            f"{_list_indexes(idle)} not used, but the statistics begin only at {since:%Y-%m-%d %H:%M} UTC.",
            remedy=f"Check again after {since + counted_for:%Y-%m-%d}.",
        )
    for index in idle:
        is_new = created_since(context, index, readers.now - counted_for)
        if is_new is not True:
            yield _finding(index, since, age_known=is_new is False)


def _idle(context: CheckContext, snapshot: IndexSnapshot, now: datetime) -> list[Index]:
    keys, families = list(read_keys(context)), read_families(context)
    idle: list[Index] = []
    for index in sorted(snapshot.indexes, key=lambda index: -index.bytes):
        remaining = [other for other in snapshot.of(index.table_oid) if other not in idle]
        if is_idle(index, now) and not needed_for(index, remaining, keys, families):
            idle.append(index)
    return idle


def is_idle(index: Index, now: datetime) -> bool:
    """Return whether it is large, valid and not used: never, or not for `NOT_USED_FOR` where that is recorded."""
    if index.bytes < MIN_BYTES or not index.is_usable:
        return False
    if index.scans == 0:
        return True
    return index.last_scan is not None and index.last_scan < now - NOT_USED_FOR


def needed_for(index: Index, remaining: list[Index], keys: list[ForeignKey], families: Mapping[int, int]) -> str | None:
    """Return what needs the index apart from queries; None if nothing. `remaining` are the other indexes that stay."""
    if index.is_unique or index.is_exclusion or index.is_toast:
        return "a constraint"
    if (dependent := dependent_of(index)) and not is_declared(index):
        return dependent
    others = [other for other in remaining if other.oid != index.oid]
    for key in keys:
        if key.is_served_by(index, families) and not any(key.is_served_by(other, families) for other in others):
            return f"the foreign key {key.name}"
    return None


def _require_all_scans_counted(is_replica: bool, replicas: int, idle: list[Index], *, has_replica_url: bool) -> None:
    """Raise `UnknownState` if scans on another server would be missing; one replica can be read by its URL."""
    if is_replica:
        raise UnknownState(
            f"{_list_indexes(idle)} not used here, but this is a replica.", remedy="Check the primary as well."
        )
    if replicas == 1 and not has_replica_url:
        raise UnknownState(
            f"{_list_indexes(idle)} not used here, but a replica has its own statistics.",
            remedy="Set DATABASE_REPLICA_URL, so that its statistics are read",
        )
    if replicas > 1:
        raise UnknownState(
            f"{_list_indexes(idle)} not used here, but {replicas} replicas have their own statistics.",
            remedy="On each replica: SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = ...",
        )


def _list_indexes(idle: list[Index]) -> str:
    names = ", ".join(index.sql_name for index in idle[:3])
    more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
    return f"{names}{more} {'is' if len(idle) == 1 else 'are'}"


def _finding(index: Index, since: datetime, *, age_known: bool) -> IndexFinding:
    period = (
        f"since {index.last_scan:%Y-%m-%d}" if index.last_scan else f"since the statistics began on {since:%Y-%m-%d}"
    )
    megabytes = index.bytes / 1_000_000
    message = (
        f"No query has used {index.sql_name} ({megabytes:.0f} MB) {period}; every write to {index.sql_table} updates"
        " it."
    )
    evidence = {
        "index": index.sql_name,
        "table": index.sql_table,
        "bytes": index.bytes,
        "scans": index.scans,
        "last_scan": index.last_scan,
        "counted_since": since,
        "older_than_that": age_known,
        "definition": index.definition,
    }
    if is_declared(index):
        remedy = "Parley's models declare it, so keep it. Does a feature need it that was not used yet?"
        return index_finding(Level.WARNING, message, evidence, remedy=remedy)
    step = drop_step(CHECK, index)
    remedy = PLAN if step else BY_HAND
    if not age_known:
        remedy += ". Was it created recently? Its age is unknown; wait two weeks if it was"
    return index_finding(Level.WARNING, message, evidence, step=step, remedy=remedy)
