"""The start of PostgreSQL's statistics.

`pg_stat_database.stats_reset` has it, but is null if the database's statistics were never reset. Then they begin with
those of the server: at its creation, or at its last crash, which discards them. `pg_stat_bgwriter.stats_reset` has that
time. Resetting that view alone makes the statistics look younger than they are, never older.
"""

from datetime import datetime

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.errors import UnknownState

SINCE = Statement(
    "ops.counting_since",
    """
SELECT current_setting('track_counts')::bool AS counts,
       coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                (SELECT stats_reset FROM pg_stat_bgwriter)) AS since""",
)


def counting_since(context: CheckContext) -> datetime:
    """Return the start of the statistics. Raises `UnknownState` if PostgreSQL keeps none or the start is unknown."""
    row = SINCE.one(context.connection, {})
    if row is None or not row.counts:
        raise UnknownState(
            "PostgreSQL keeps no statistics (track_counts is off).",
            remedy="ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf(); then wait two weeks",
        )
    if row.since is None:
        raise UnknownState("The start of PostgreSQL's statistics is unknown.", remedy="SELECT pg_stat_reset()")
    since: datetime = row.since
    return since
