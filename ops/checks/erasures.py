"""Whether those who were erased are still gone: a restored backup brings them back. And whether all of each went."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories import accounts as sql
from app.repositories import erasing
from app.repositories.owned import ACCOUNTS, OWNER, owned_tables
from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

BATCH = 1000  # receipts at a time
SHOWN = 10  # accounts in one finding's evidence, or with a finding each
LONGEST = timedelta(hours=1)


def nobody_came_back(probe: Probe) -> Iterator[Finding]:
    """Looks in every table by its key, for every receipt there is."""
    after = None
    while receipts := sql.ERASED.all(probe.connection, {"after": after, "limit": BATCH}):
        after = receipts[-1].id
        ids = [row.account_id for row in receipts]
        for table, column in {ACCOUNTS: "id", **{table.name: OWNER for table in owned_tables()}}.items():
            found = _again(table, column).all(probe.connection, {"ids": ids})
            if found:
                yield Finding(
                    level=Level.CRITICAL,
                    what=f"Table {table} has rows of {len(found)} accounts that were erased.",
                    evidence={"accounts": [str(row.account) for row in found[:SHOWN]]},
                    remedy=f"flask ops user erase {found[0].account} --reason 'it came back'",
                )


def unfinished(probe: Probe) -> Iterator[Finding]:
    """Erasures that have begun long ago, and of which there is no receipt."""
    for row in erasing.UNFINISHED.all(probe.connection, {"seconds": LONGEST.total_seconds(), "limit": SHOWN}):
        yield Finding(
            level=Level.WARNING,
            what=f"The erasure of account {row.account_id} began long ago and has not come to its end.",
            evidence={"account": str(row.account_id), "begun_at": row.begun_at, "gone so far": row.rows},
            remedy=f"flask ops user erase {row.account_id} --reason 'it was cut off'",
        )


def _again(table: str, column: str) -> Statement:
    # Both are identifiers of our own models.
    return Statement(
        f"erasures.again_{table}",
        f'SELECT DISTINCT {column} AS account FROM "{table}" WHERE {column} = ANY(%(ids)s::uuid[])',  # noqa: S608
    )
