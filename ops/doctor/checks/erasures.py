"""Erasures: whether erased users reappeared, as after restoring a backup, and whether all erasures were completed."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories import erasure
from app.repositories import user_admin as sql
from app.repositories.owned import OWNER, USERS, owned_tables
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

BATCH = 1000  # receipts at a time
SHOWN = 10  # users in the evidence of a finding; unfinished erasures that are reported
MAX_DURATION = timedelta(hours=1)


@check("erasures.reappeared", "Are erased users still absent?", severity=Level.CRITICAL)
def find_reappeared(context: CheckContext) -> Iterator[Finding]:
    """Search every table for the users of all receipts."""
    after = None
    while receipts := sql.ERASED.all(context.connection, {"after": after, "limit": BATCH}):
        after = receipts[-1].id
        ids = [row.user_id for row in receipts]
        for table, column in {USERS: "id", **{table.name: OWNER for table in owned_tables()}}.items():
            rows = _rows_of(table, column).all(context.connection, {"ids": ids})
            if rows:
                yield Finding(
                    level=Level.CRITICAL,
                    message=f"Table {table} has rows of {len(rows)} users that were erased.",
                    object=table,
                    evidence={"users": [str(row.user_id) for row in rows[:SHOWN]]},
                    remedy=f"flask ops user erase {rows[0].user_id} --reason 'reappeared'",
                )


@check("erasures.unfinished", "Has every erasure that started been completed?", severity=Level.WARNING)
def find_unfinished(context: CheckContext) -> Iterator[Finding]:
    """Find erasures that started long ago and have no receipt."""
    for row in erasure.UNFINISHED.all(context.connection, {"seconds": MAX_DURATION.total_seconds(), "limit": SHOWN}):
        yield Finding(
            level=Level.WARNING,
            message=f"The erasure of user {row.user_id} started more than an hour ago and was not completed.",
            object=str(row.user_id),
            evidence={"user": str(row.user_id), "started_at": row.begun_at, "erased so far": row.rows},
            remedy=f"flask ops user erase {row.user_id} --reason 'erasure was interrupted'",
        )


def _rows_of(table: str, column: str) -> Statement:
    return Statement(
        f"erasures.reappeared_{table}",
        # Both are identifiers of Parley's models.
        f'SELECT DISTINCT {column} AS user_id FROM "{table}" WHERE {column} = ANY(%(ids)s::uuid[])',  # noqa: S608
    )
