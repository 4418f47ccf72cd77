"""Transaction ID wraparound: PostgreSQL refuses writes after two billion ids that vacuum has not frozen."""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

ID_LIMIT = 2**31  # PostgreSQL refuses writes three million before it
WARNING, CRITICAL = 0.5, 0.75  # share of the limit

# For every database, because the oldest one stops the whole server.
AGES = Statement(
    "ops.wraparound",
    """
SELECT datname AS name, age(datfrozenxid) AS transactions, mxid_age(datminmxid) AS multixacts,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_at,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint AS multixact_freeze_at
  FROM pg_database ORDER BY age(datfrozenxid) DESC""",
)
# What keeps vacuum from freezing ids, the oldest first.
HOLDERS = Statement(
    "ops.wraparound_holders",
    """
SELECT * FROM (
    SELECT 'session ' || pid AS name, age(backend_xmin) AS age FROM pg_stat_activity
     WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL SELECT 'prepared transaction ' || gid, age(transaction) FROM pg_prepared_xacts
    UNION ALL SELECT 'replication slot ' || slot_name, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
) AS holders WHERE age IS NOT NULL ORDER BY age DESC LIMIT 3""",
)


@check("tables.wraparound", "Is transaction ID wraparound far away?", severity=Level.CRITICAL)
def wraparound(context: CheckContext) -> Iterator[Finding]:
    """Find databases that have used half of the transaction or multixact ids."""
    for row in AGES.all(context.connection, {}):
        for kind, age, freeze_at in (
            ("transaction", row.transactions, row.freeze_at),
            ("multixact", row.multixacts, row.multixact_freeze_at),
        ):
            share = age / ID_LIMIT
            if share < WARNING:
                continue
            holders = {holder.name: holder.age for holder in HOLDERS.all(context.connection, {})}
            yield Finding(
                level=Level.CRITICAL if share >= CRITICAL else Level.WARNING,
                message=f"Database {row.name} has used {share:.0%} of the {kind} ids: at 100%, writes are refused.",
                object=f"{row.name} {kind}",
                evidence={
                    "database": row.name,
                    "age": age,
                    "share": round(share, 3),
                    "autovacuum_freezes_at": freeze_at,
                    "held_back_by": holders,
                },
                remedy="What holds vacuum back (held_back_by)? End that, then vacuum that database",
                sql="VACUUM (FREEZE, VERBOSE);",
            )
