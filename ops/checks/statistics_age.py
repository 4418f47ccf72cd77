"""Since when PostgreSQL has been counting scans and rows.

`pg_stat_database.stats_reset` says so, but it is null in a database whose statistics were never reset. Then they are as
old as the statistics of the whole server: those begin with the server, and anew after each crash, which throws all of
them away, and `pg_stat_bgwriter.stats_reset` has that moment. Resetting that view alone makes them look younger than
they are, never older.
"""

from datetime import datetime

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import CannotJudge

SINCE = Statement(
    "ops.counting_since",
    """
SELECT current_setting('track_counts')::bool AS counts,
       coalesce((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
                (SELECT stats_reset FROM pg_stat_bgwriter)) AS since""",
)


def counting_since(probe: Probe) -> datetime:
    """The moment before which nothing was counted.

    Raises `CannotJudge` where PostgreSQL is told not to count, or does not say since when it does.
    """
    row = SINCE.one(probe.connection, {})
    if row is None or not row.counts:
        raise CannotJudge(
            "PostgreSQL is told not to count anything (track_counts is off).",
            remedy="ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf(); then wait two weeks",
        )
    if row.since is None:
        raise CannotJudge("PostgreSQL does not say since when it has been counting.", remedy="SELECT pg_stat_reset()")
    since: datetime = row.since
    return since
