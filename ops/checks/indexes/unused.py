"""Indexes that no query has used for as long as PostgreSQL has been counting.

PostgreSQL counts since its statistics were reset, or lost in a crash; it does not note when an index was made. A scan
on a replica is counted there. So this judges only where the counting is old enough and nobody reads elsewhere, and it
leaves out what is there for another reason than to be read.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from app.repositories.statement import Statement
from ops.checks.indexes.age import made_since
from ops.checks.indexes.cases import BY_HAND, PLAN, Case, case, drop, findings
from ops.checks.indexes.declared import is_declared
from ops.checks.indexes.foreign_keys import ForeignKey, families_of, keys_of
from ops.checks.indexes.overlap import held_by
from ops.checks.indexes.reading import Index, Reading, read
from ops.checks.indexes.replicas import counted_together
from ops.checks.probe import Probe
from ops.checks.statistics_age import counting_since
from ops.findings import CannotJudge, Finding
from ops.levels import Level

CHECK = "indexes.unused"
LEAST_BYTES = 10_000_000
COUNTED_FOR = timedelta(days=14)  # a fortnight has the weekly duties in it twice
NOT_USED_FOR = timedelta(days=90)  # where PostgreSQL says when an index was last used (16 and newer)

READERS = Statement(
    "ops.replicas",
    """
SELECT pg_is_in_recovery() AS is_replica,
       (SELECT count(*) FROM pg_stat_replication r
         WHERE r.state IS DISTINCT FROM 'backup'
           AND NOT EXISTS (SELECT FROM pg_replication_slots s
                            WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) AS connected,
       (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active) AS away,
       now() AS now""",
)


def unused(probe: Probe) -> Iterator[Finding]:
    """Every index of at least 10 MB that has not been used for as long as that is known, and that only costs.

    Raises `CannotJudge` where there is such an index, and the counting is too young or leaves out replicas.
    """
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading, *, counted_for: timedelta | None = None) -> Iterator[Case]:
    """`counted_for` is how long PostgreSQL must have been counting, `COUNTED_FOR` without it."""
    counted_for = COUNTED_FOR if counted_for is None else counted_for
    (readers,) = READERS.all(probe.connection, {})
    idle = _idle(probe, reading, readers.now)
    if not idle:
        return
    since = counting_since(probe)
    url = probe.settings.database.replica_url
    _seen_everywhere(readers.is_replica, readers.connected + readers.away, idle, asked=url is not None)
    if url is not None:
        reading, there = counted_together(probe, reading, str(url))
        since, idle = max(since, there), _idle(probe, reading, readers.now)
    if idle and since > readers.now - counted_for:
        raise CannotJudge(
            f"{_named(idle)} not used, but PostgreSQL has been counting only since {since:%Y-%m-%d %H:%M} UTC.",
            remedy=f"Ask again after {since + counted_for:%Y-%m-%d}.",
        )
    for index in idle:
        made = made_since(probe, index, readers.now - counted_for)
        if made is not True:
            yield _case(index, since, age_known=made is False)


def _idle(probe: Probe, reading: Reading, now: datetime) -> list[Index]:
    keys, families = list(keys_of(probe)), families_of(probe)
    idle: list[Index] = []
    for index in sorted(reading.indexes, key=lambda index: -index.bytes):
        rest = [other for other in reading.of(index.table_oid) if other not in idle]
        if is_idle(index, now) and not needed_for(index, rest, keys, families):
            idle.append(index)
    return idle


def is_idle(index: Index, now: datetime) -> bool:
    """Large enough to matter, usable, and not used: never, or where that is known, not for `NOT_USED_FOR`."""
    if index.bytes < LEAST_BYTES or not index.serves:
        return False
    if index.scans == 0:
        return True
    return index.last_scan is not None and index.last_scan < now - NOT_USED_FOR


def needed_for(index: Index, rest: list[Index], keys: list[ForeignKey], families: Mapping[int, int]) -> str | None:
    """What an index is for beside being read by queries; None if nothing. `rest` are those that stay on its table."""
    if index.is_unique or index.is_exclusion or index.is_toast:
        return "a rule"
    if (holder := held_by(index)) and not is_declared(index):
        return holder
    others = [other for other in rest if other.oid != index.oid]
    for key in keys:
        if key.is_served_by(index, families) and not any(key.is_served_by(other, families) for other in others):
            return f"the foreign key {key.name}"
    return None


def _seen_everywhere(is_replica: bool, replicas: int, idle: list[Index], *, asked: bool) -> None:
    """Raises `CannotJudge` where somebody may read these indexes unseen; one replica is `asked`."""
    if is_replica:
        raise CannotJudge(f"{_named(idle)} not used here, but this is a replica.", remedy="Ask the primary as well.")
    if replicas == 1 and not asked:
        raise CannotJudge(
            f"{_named(idle)} not used here, but a replica counts for itself.",
            remedy="Set DATABASE_REPLICA_URL, so that it is asked too",
        )
    if replicas > 1:
        raise CannotJudge(
            f"{_named(idle)} not used here, but {replicas} replicas count for themselves.",
            remedy="On each replica: SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = ...",
        )


def _named(idle: list[Index]) -> str:
    names = ", ".join(index.sql_name for index in idle[:3])
    more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
    return f"{names}{more} {'is' if len(idle) == 1 else 'are'}"


def _case(index: Index, since: datetime, *, age_known: bool) -> Case:
    last = f"since {index.last_scan:%Y-%m-%d}" if index.last_scan else f"since counting began on {since:%Y-%m-%d}"
    megabytes = index.bytes / 1_000_000
    what = (
        f"No query has used {index.sql_name} ({megabytes:.0f} MB) {last}; every write to {index.sql_table} pays for it."
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
        remedy = "Parley's models declare it: leave it, and tell whoever maintains them."
        return case(Level.WARNING, what, evidence, remedy=remedy)
    step = drop(CHECK, index)
    remedy = PLAN if step else BY_HAND
    if not age_known:
        remedy += "; nothing tells how old it is, so see first that it was not made lately"
    return case(Level.WARNING, what, evidence, step=step, remedy=remedy)
