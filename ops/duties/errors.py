"""Errors: turns that did not end well, jobs that failed, and what the database counts."""

from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.levels import Level

DAY = timedelta(days=1)
LONGEST = timedelta(seconds=60)  # reading the ledger of turns from end to end, if its rows lie in no order of time
MANY = 0.01  # of the turns; the service level leaves room for one in a thousand

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
DATABASE = Statement(
    "ops.database_errors",
    """
SELECT deadlocks, conflicts, coalesce(checksum_failures, 0) AS checksum_failures, sessions_fatal, sessions_killed,
       temp_bytes, xact_rollback AS rollbacks, xact_commit AS commits, stats_reset AS since
  FROM pg_stat_database WHERE datname = current_database()""",
)


def of_a_day(probe: Probe) -> Told:
    """How turns and jobs of the last day ended, and what the database has counted since its statistics were reset.

    What requests answered is in the metrics (`parley_http_request_duration_seconds`), what was logged in the log.
    """
    seconds = {"seconds": DAY.total_seconds()}
    with probe.patience(LONGEST):
        turns, runs = TURNS.all(probe.connection, seconds), RUNS.all(probe.connection, seconds)
    counted = DATABASE.one(probe.connection, {})
    total = sum(row.turns for row in turns)
    bad = [row for row in turns if row.status in ("failed", "interrupted")]
    ended_badly = sum(row.turns for row in bad)
    damaged = bool(counted is not None and counted.checksum_failures)
    share = ended_badly / total if total else 0.0
    level = Level.CRITICAL if damaged else Level.WARNING if share > MANY or runs else Level.OK
    figures = dict(counted._mapping) if counted is not None else {}
    return Told(
        level=level,
        says=f"{ended_badly:,} of {total:,} turns did not end well ({share:.2%}), "
        f"{sum(row.runs for row in runs):,} runs of jobs failed"
        + (", and PostgreSQL found damaged pages: restore a backup" if damaged else ""),
        figures={"turns": total, "turns_ended_badly": ended_badly, **figures},
        rows=(
            *(
                {"what": "turn", "name": row.code or row.provider, "ended": row.status, "times": row.turns}
                for row in bad
            ),
            *({"what": "job", "name": row.job, "ended": row.status, "times": row.runs} for row in runs),
        ),
    )
