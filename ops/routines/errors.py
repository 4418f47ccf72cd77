"""Errors: failed turns and jobs, and PostgreSQL's error counters."""

from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.levels import Level
from ops.routines.sections import Section

DAY = timedelta(days=1)
STATEMENT_TIMEOUT = timedelta(seconds=60)  # for a scan of all turns, if the index on the time is not used
MAX_SHARE = 0.01  # of failed turns; the service level allows one in a thousand

TURNS = Statement(
    "ops.turns_of_a_day",
    """
SELECT status, coalesce(error->>'code', '') AS code, provider, count(*)::int AS turns FROM turns
 WHERE started_at > now() - make_interval(secs => %(seconds)s) GROUP BY 1, 2, 3 ORDER BY turns DESC""",
)
RUNS = Statement(
    "ops.runs_of_a_day",
    """
SELECT job, status, count(*)::int AS runs FROM job_runs
 WHERE status IN ('failed', 'lost') AND started_at > now() - make_interval(secs => %(seconds)s)
 GROUP BY 1, 2 ORDER BY runs DESC""",
)
DATABASE_COUNTERS = Statement(
    "ops.database_errors",
    """
SELECT deadlocks, conflicts, coalesce(checksum_failures, 0) AS checksum_failures, sessions_fatal, sessions_killed,
       temp_bytes, xact_rollback AS rollbacks, xact_commit AS commits, stats_reset AS since
  FROM pg_stat_database WHERE datname = current_database()""",
)


def of_last_day(context: CheckContext) -> Section:
    """Count failed turns and jobs of the last day, and read the database's error counters since their reset.

    The status codes of requests are in the metrics (`parley_http_request_duration_seconds`).
    """
    seconds = {"seconds": DAY.total_seconds()}
    with context.statement_timeout(STATEMENT_TIMEOUT):
        turns, runs = TURNS.all(context.connection, seconds), RUNS.all(context.connection, seconds)
    counters = DATABASE_COUNTERS.one(context.connection, {})
    total = sum(row.turns for row in turns)
    failed = [row for row in turns if row.status in ("failed", "interrupted")]
    failed_turns = sum(row.turns for row in failed)
    is_damaged = bool(counters is not None and counters.checksum_failures)
    share = failed_turns / total if total else 0.0
    level = Level.CRITICAL if is_damaged else Level.WARNING if share > MAX_SHARE or runs else Level.OK
    data = dict(counters._mapping) if counters is not None else {}
    return Section(
        level=level,
        summary=f"{failed_turns:,} of {total:,} turns failed or were interrupted ({share:.2%}), "
        f"{sum(row.runs for row in runs):,} job runs failed"
        + (", and PostgreSQL found damaged pages: restore a backup" if is_damaged else ""),
        data={"turns": total, "failed_turns": failed_turns, **data},
        rows=(
            *(
                {"kind": "turn", "name": row.code or row.provider, "status": row.status, "count": row.turns}
                for row in failed
            ),
            *({"kind": "job", "name": row.job, "status": row.status, "count": row.runs} for row in runs),
        ),
    )
