"""What is kept for somebody who may never come back: prepared transactions, and replication slots."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level
from ops.words import size, span

PREPARED, ABANDONED = timedelta(minutes=5), timedelta(hours=1)
FORGOTTEN = timedelta(days=1)  # without a reader
LOG_BYTES, MUCH_LOG_BYTES = 2**30, 10 * 2**30  # that a slot keeps on the disk
TRANSACTIONS = 10_000_000  # whose dead rows a slot keeps from being cleaned up

PREPARED_ONES = Statement(
    "ops.prepared",
    """
SELECT quote_literal(gid) AS gid, owner::text AS account, age(transaction) AS transactions,
       extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds
  FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared""",
)
# A standby has no current position of its own in the log. Only 17 and newer say since when nobody has read.
_SLOTS = """
SELECT quote_literal(slot_name) AS slot, active, wal_status, {idle}::float8 AS idle_seconds,
       greatest(age(xmin), age(catalog_xmin), 0) AS transactions,
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0) END::int8 AS bytes
  FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name"""
SLOTS_16 = Statement("ops.slots", _SLOTS.format(idle="NULL"))
SLOTS = Statement("ops.slots", _SLOTS.format(idle="extract(epoch FROM clock_timestamp() - inactive_since)"))


def prepared(probe: Probe) -> Iterator[Finding]:
    """Prepared transactions older than `PREPARED`. Parley makes none; they keep their locks for ever."""
    for row in PREPARED_ONES.all(probe.connection, {}):
        age = timedelta(seconds=row.seconds)
        if age >= PREPARED:
            yield Finding(
                level=Level.CRITICAL if age >= ABANDONED else Level.WARNING,
                what=f"The prepared transaction {row.gid} of {row.account} has kept its locks for {span(age)}.",
                evidence={"transactions_since": row.transactions, "account": row.account},
                remedy="Ask whoever coordinates it, then end it: ROLLBACK PREPARED, or COMMIT PREPARED",
                sql=f"ROLLBACK PREPARED {row.gid}",
            )


def slots(probe: Probe) -> Iterator[Finding]:
    """Replication slots that keep much of the log on the disk, or dead rows in the tables, or that nobody reads."""
    for row in (SLOTS_16 if probe.version < 17 else SLOTS).all(probe.connection, {}):
        bytes_kept = row.bytes or 0
        away = timedelta(seconds=row.idle_seconds or 0)
        if row.wal_status == "lost":
            what = f"The replication slot {row.slot} has lost what it needs: its replica cannot go on."
        elif bytes_kept >= LOG_BYTES or row.transactions >= TRANSACTIONS:
            idle = "" if row.active else ", and nobody reads from it"
            what = f"The replication slot {row.slot} keeps {size(bytes_kept)} of log{idle}."
        elif not row.active and away >= FORGOTTEN:
            what = f"Nobody has read from the replication slot {row.slot} for {span(away)}; it keeps more and more log."
        else:
            continue
        grave = row.wal_status == "lost" or (not row.active and bytes_kept >= MUCH_LOG_BYTES)
        yield Finding(
            level=Level.CRITICAL if grave else Level.WARNING,
            what=what,
            evidence={
                "active": row.active,
                "wal_status": row.wal_status,
                "log_bytes": bytes_kept,
                "transactions": row.transactions,
            },
            remedy="Bring its replica back; if there is none any more, drop the slot",
            sql=f"SELECT pg_drop_replication_slot({row.slot})",
        )
