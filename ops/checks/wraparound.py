"""Transaction numbers: there are two billion before PostgreSQL stops taking writes, and vacuum gives used ones back."""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

NUMBERS = 2**31  # PostgreSQL stops three million before it
WARNING, CRITICAL = 0.5, 0.75  # of them

# Of every database: the oldest one stops them all.
AGES = Statement(
    "ops.wraparound",
    """
SELECT datname AS name, age(datfrozenxid) AS transactions, mxid_age(datminmxid) AS multixacts,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_at,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint AS multixact_freeze_at
  FROM pg_database ORDER BY age(datfrozenxid) DESC""",
)
# What keeps vacuum from giving numbers back, the oldest first.
HOLDERS = Statement(
    "ops.wraparound_holders",
    """
SELECT * FROM (
    SELECT 'session ' || pid AS who, age(backend_xmin) AS age FROM pg_stat_activity
     WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL SELECT 'prepared transaction ' || gid, age(transaction) FROM pg_prepared_xacts
    UNION ALL SELECT 'replication slot ' || slot_name, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
) AS holders WHERE age IS NOT NULL ORDER BY age DESC LIMIT 3""",
)


def wraparound(probe: Probe) -> Iterator[Finding]:
    """Every database that has used up half of the transaction or multixact numbers."""
    for row in AGES.all(probe.connection, {}):
        for what, age, freeze_at in (
            ("transaction", row.transactions, row.freeze_at),
            ("multixact", row.multixacts, row.multixact_freeze_at),
        ):
            share = age / NUMBERS
            if share < WARNING:
                continue
            holders = {holder.who: holder.age for holder in HOLDERS.all(probe.connection, {})}
            yield Finding(
                level=Level.CRITICAL if share >= CRITICAL else Level.WARNING,
                what=f"Database {row.name} has used {share:.0%} of the {what} numbers: at 100%, no writes.",
                evidence={
                    "database": row.name,
                    "age": age,
                    "share": round(share, 3),
                    "autovacuum_freezes_at": freeze_at,
                    "held_back_by": holders,
                },
                remedy="End what holds vacuum back, then vacuum that database",
                sql="VACUUM (FREEZE, VERBOSE);",
            )
