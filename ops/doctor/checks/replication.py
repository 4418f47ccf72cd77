"""Prepared transactions and replication slots, which PostgreSQL keeps until they are ended or dropped."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.formatting import format_duration, format_size
from ops.levels import Level

PREPARED, ABANDONED = timedelta(minutes=5), timedelta(hours=1)
INACTIVE = timedelta(days=1)
WAL_BYTES, MUCH_WAL_BYTES = 2**30, 10 * 2**30  # that a slot retains
TRANSACTIONS = 10_000_000  # whose dead rows a slot keeps from vacuum

PREPARED_TRANSACTIONS = Statement(
    "ops.prepared",
    """
SELECT quote_literal(gid) AS gid, owner::text AS role, age(transaction) AS transactions,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds
  FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared""",
)
# A standby has no current WAL position. PostgreSQL 17 and newer record when a slot became inactive.
_SLOTS = """
SELECT quote_literal(slot_name) AS slot, active, wal_status, {idle}::float8 AS idle_seconds,
       greatest(age(xmin), age(catalog_xmin), 0) AS transactions,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0) END::int8 AS bytes
  FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name"""
SLOTS_16 = Statement("ops.slots", _SLOTS.format(idle="NULL"))
SLOTS = Statement("ops.slots", _SLOTS.format(idle="extract(epoch FROM clock_timestamp() - inactive_since)"))


@check("replication.prepared", "Are there abandoned prepared transactions?", severity=Level.CRITICAL)
def prepared(context: CheckContext) -> Iterator[Finding]:
    """Find prepared transactions older than `PREPARED`. Parley creates none, and they keep their locks until ended."""
    for row in PREPARED_TRANSACTIONS.all(context.connection, {}):
        age = timedelta(seconds=row.seconds)
        if age >= PREPARED:
            yield Finding(
                level=Level.CRITICAL if age >= ABANDONED else Level.WARNING,
                message=f"The prepared transaction {row.gid} of {row.role} has held its locks for"
                f" {format_duration(age)}.",
                object=row.gid,
                evidence={"transactions_since": row.transactions, "role": row.role},
                remedy="Did its transaction manager decide on COMMIT PREPARED? If it has no record of it, roll it back",
                sql=f"ROLLBACK PREPARED {row.gid};",
            )


@check("replication.slots", "Does an inactive replication slot retain WAL?", severity=Level.CRITICAL)
def slots(context: CheckContext) -> Iterator[Finding]:
    """Find slots that retain much WAL or many dead rows, or that are inactive."""
    for row in (SLOTS_16 if context.version < 17 else SLOTS).all(context.connection, {}):
        retained_bytes = row.bytes or 0
        idle = timedelta(seconds=row.idle_seconds or 0)
        if row.wal_status == "lost":
            message = f"The replication slot {row.slot} has lost WAL that it needs: its replica cannot continue."
        elif retained_bytes >= WAL_BYTES or row.transactions >= TRANSACTIONS:
            inactive = "" if row.active else ", and is inactive"
            message = f"The replication slot {row.slot} retains {format_size(retained_bytes)} of WAL{inactive}."
        elif not row.active and idle >= INACTIVE:
            message = (
                f"The replication slot {row.slot} has been inactive for {format_duration(idle)}, and retains more"
                " and more WAL."
            )
        else:
            continue
        is_critical = row.wal_status == "lost" or (not row.active and retained_bytes >= MUCH_WAL_BYTES)
        yield Finding(
            level=Level.CRITICAL if is_critical else Level.WARNING,
            message=message,
            object=row.slot,
            evidence={
                "active": row.active,
                "wal_status": row.wal_status,
                "wal_bytes": retained_bytes,
                "transactions": row.transactions,
            },
            remedy="Does its replica still exist? Then reconnect it; if not, drop the slot",
            sql=f"SELECT pg_drop_replication_slot({row.slot});",
        )
