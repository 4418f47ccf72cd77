"""Jobs: whether the beat works, which jobs failed or are overdue, and the state of the queue."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.enums import JobRunStatus
from app.jobs import Broker, BrokerState, job_broker
from app.logs import redact
from app.repositories import job_runs as sql
from app.repositories import paused_jobs
from app.repositories.statement import Statement
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import BEAT_TICK, JOBS
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.formatting import format_duration
from ops.levels import Level
from ops.runs.run import MIN_PAUSE

SILENT, DEAD = timedelta(minutes=2), timedelta(minutes=5)  # since the last tick; the beat sends two a minute
GRACE = timedelta(minutes=5)  # after the end of a run that started in its slot and took its whole time limit
SLOTS_MISSED, VERY_LATE = 3, timedelta(days=1)  # critical only above both, because a restarted beat catches up
LONG_PAUSE = timedelta(days=1)
MAX_FAILURES = 3  # of one job in a row
WAITING, MANY_WAITING = 1_000, 10_000  # messages in a queue

# The first run that a beat requested. Slots before that were before this installation.
FIRST = Statement(
    "ops.first_run",
    """
SELECT min((SELECT started_at FROM job_runs WHERE job_runs.job = wanted.job AND slot IS NOT NULL
             ORDER BY started_at LIMIT 1)) AS started_at
  FROM unnest(%(jobs)s::text[]) AS wanted(job)""",
)
# The last finished run of each job, if it did not succeed, and the number of failures since the last success.
FAILURES = Statement(
    "ops.failures",
    """
SELECT wanted.job, last.status, last.started_at, last.reason,
       (SELECT count(*)::int FROM job_runs AS failed
         WHERE failed.job = wanted.job AND failed.status IN ('failed', 'lost')
           AND failed.started_at <= now()
           AND failed.started_at > coalesce((SELECT started_at FROM job_runs AS good
                                              WHERE good.job = wanted.job AND good.status = 'succeeded'
                                                AND good.started_at <= now()
                                              ORDER BY started_at DESC LIMIT 1), '-infinity')) AS in_a_row
  FROM unnest(%(jobs)s::text[]) AS wanted(job)
 CROSS JOIN LATERAL (SELECT status, started_at, reason FROM job_runs
                      WHERE job_runs.job = wanted.job AND status IN ('succeeded', 'failed', 'lost')
                        AND started_at <= now()
                      ORDER BY started_at DESC LIMIT 1) AS last
 WHERE last.status <> 'succeeded'""",
)


@check("beat.alive", "Do beat, broker and worker run jobs?", severity=Level.CRITICAL)
def beat(context: CheckContext) -> Iterator[Finding]:
    """Check when a worker last ran the beat's own job: after a while, beat, broker or workers are down."""
    row = sql.LAST.one(context.connection, {"jobs": [BEAT_TICK.name]})
    remedy = f"Do broker, beat and a worker run? `make up` runs all of them; see {BEAT_TICK.runbook}"
    if row is None or row.succeeded is None:
        yield Finding(
            object="beat",
            level=Level.CRITICAL,
            message="The beat has never run a job: scheduled jobs do not run.",
            evidence={"last_attempt": row.attempted if row is not None else None},
            remedy=remedy,
        )
        return
    silence = context.now - row.succeeded
    if silence >= SILENT:
        yield Finding(
            object="beat",
            level=Level.CRITICAL if silence >= DEAD else Level.WARNING,
            message=f"The beat has run no job for {format_duration(silence)}: scheduled jobs do not run.",
            evidence={"last_success": row.succeeded, "last_attempt": row.attempted, "last_status": row.status},
            remedy=remedy,
        )


@check("jobs.failed", "Did the last run of each job succeed?", severity=Level.CRITICAL)
def failed(context: CheckContext) -> Iterator[Finding]:
    """Find jobs whose last run failed or lost its worker."""
    rows = {row.job: row for row in FAILURES.all(context.connection, {"jobs": [job.name for job in JOBS]})}
    for job in JOBS:
        if (row := rows.get(job.name)) is None:
            continue
        outcome = "failed" if row.status == JobRunStatus.FAILED else "lost its worker"
        times = f", {row.in_a_row} times in a row" if row.in_a_row > 1 else ""
        yield Finding(
            level=Level.CRITICAL if row.in_a_row >= MAX_FAILURES else Level.WARNING,
            message=f"The last run of {job.name} {outcome}{times}: {row.reason or 'reason unknown'}",
            object=job.name,
            evidence={"started_at": row.started_at, "in_a_row": row.in_a_row},
            remedy=f"Is the cause gone (flask ops jobs history --job {job.name})? Then: flask ops jobs run {job.name}"
            if job.schedule
            else f"What stopped it? flask ops jobs history --job {job.name}",
        )


@check("jobs.overdue", "Did every scheduled job run on time?", severity=Level.CRITICAL)
def overdue(context: CheckContext) -> Iterator[Finding]:
    """Find scheduled jobs that missed their slot, jobs that have been paused for long, and runs in the future.

    A job that is new in this version is due from its first slot after a worker has loaded it.
    """
    yield from _future_runs(context)
    paused = {row.job: row for row in paused_jobs.ALL.all(context.connection, {})}
    yield from _long_pauses(context, paused)
    jobs = [job for job in JOBS if job.schedule and job.name not in paused]
    names = {"jobs": [job.name for job in jobs]}
    first = FIRST.one(context.connection, names)
    if first is None or first.started_at is None:
        raise UnknownState("No beat has ever requested a job here.", remedy="flask ops doctor --only beat")
    attempted = {row.job: row.attempted for row in sql.LAST.all(context.connection, names)}
    first_run, now = first.started_at, context.now
    due_since = _due_since(context, first_run, now)
    since = {job: first_run if attempted[job.name] else due_since(job) for job in jobs}
    late = {job: slot for job in jobs if (slot := _missed_slot(job, attempted[job.name], since[job], now)) is not None}
    if not late:
        return
    is_critical = any(
        now - slot >= max(VERY_LATE, SLOTS_MISSED * job.schedule.interval) for job, slot in late.items() if job.schedule
    )
    names_shown = ", ".join(job.name for job in list(late)[:3])
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""
    yield Finding(
        object="overdue",
        level=Level.CRITICAL if is_critical else Level.WARNING,
        message=f"{'1 job is' if len(late) == 1 else f'{len(late)} jobs are'} overdue: {names_shown}{more}.",
        evidence={job.name: {"due": slot, "last_run": attempted[job.name]} for job, slot in late.items()},
        remedy=f"Do the beat and a worker run (flask ops doctor --only beat)? To run one now: flask ops jobs run"
        f" {next(iter(late)).name}",
    )


def _due_since(context: CheckContext, first_run: datetime, now: datetime) -> Callable[[Job], datetime]:
    """Return a function from a job to the time since when it is due: when a worker first loaded it, if that is known.

    Otherwise since the first run of this installation.
    """
    row = sql.KNOWN_SINCE.one(context.connection, {})
    if row is None or not isinstance(row.value, dict):
        return lambda job: first_run
    moments = {job: datetime.fromisoformat(moment) for job, moment in row.value.items()}

    def due_since(job: Job) -> datetime:
        loaded_at = moments.get(job.name, now)  # not loaded by any worker yet
        return max(first_run, loaded_at) if loaded_at <= now else first_run

    return due_since


def _future_runs(context: CheckContext) -> Iterator[Finding]:
    rows = sql.IN_FUTURE.all(context.connection, {"jobs": [job.name for job in JOBS]})
    newest = {row.job: row.newest for row in rows if row.newest is not None}
    if newest:
        yield Finding(
            object="future",
            level=Level.WARNING,
            message=f"Runs of {len(newest)} jobs are dated in the future, up to {max(newest.values()):%Y-%m-%d %H:%M}"
            " UTC, because a clock was wrong. These runs are ignored.",
            evidence=newest,
            remedy="Is the database's clock right now (flask ops doctor --only connection.clock)? If so, delete them",
            sql="DELETE FROM job_runs WHERE started_at > now();",
        )


def _long_pauses(context: CheckContext, paused: Mapping[str, Any]) -> Iterator[Finding]:
    now = context.now
    for job, row in paused.items():
        if now - row.since >= LONG_PAUSE:
            yield Finding(
                object=job,
                level=Level.WARNING,
                message=f"{job} has been paused for {format_duration(now - row.since)} by {row.by}: {row.reason}",
                evidence={"since": row.since, "by": row.by},
                remedy=f"Can it run again? flask ops jobs resume {job}",
            )


def _missed_slot(job: Job, attempted: datetime | None, since: datetime, now: datetime) -> datetime | None:
    """Return the first slot after the last run whose run should have ended by now; None if there is none."""
    if job.schedule is None:
        return None
    # The beat skips a slot that follows shortly after a run by hand.
    slot = job.schedule.next_slot(max(attempted or since, since) + min(job.schedule.interval / 2, MIN_PAUSE))
    return slot if slot + job.time_limit + GRACE < now else None


@check("queue.broker", "Can jobs be sent to the broker?", severity=Level.CRITICAL)
def broker(context: CheckContext) -> Iterator[Finding]:
    """Check that the broker answers and, if it is a Redis, accepts writes."""
    report = _configured_broker().check()
    if report is None or report.state is BrokerState.OK:
        return
    evidence = {
        "CELERY_BROKER_URL": "set" if context.settings.jobs.broker_url else "unset, so the embedded one",
        "reason": report.reason,
    }
    if report.state is BrokerState.READ_ONLY:
        yield Finding(
            object="broker",
            level=Level.CRITICAL,
            message="The broker answers, but refuses to be written to: jobs are neither queued nor run.",
            evidence=evidence,
            remedy="Raise its maxmemory, free its disk, or set CELERY_BROKER_URL to the primary; chats continue",
        )
    else:
        yield Finding(
            object="broker",
            level=Level.CRITICAL,
            message="The broker cannot be reached: jobs are neither queued nor run.",
            evidence=evidence,
            remedy="Start it, or correct CELERY_BROKER_URL; chats are not affected",
        )


@check("queue.waiting", "Do the workers keep up with the queue?", severity=Level.CRITICAL)
def waiting(context: CheckContext) -> Iterator[Finding]:
    """Find queues in which many messages wait."""
    try:
        lengths = _configured_broker().queue_lengths()
    except UnknownState:
        raise
    except Exception as error:  # each broker's client has its own
        raise UnknownState(
            f"The broker cannot be reached: {redact(f'{type(error).__name__}: {error}')}.",
            remedy="flask ops doctor --only queue",
        ) from error
    for queue, length in lengths.items():
        if length >= WAITING:
            yield Finding(
                level=Level.CRITICAL if length >= MANY_WAITING else Level.WARNING,
                message=f"{length:,} messages wait in the queue {queue}: there are too few workers, or they hang.",
                object=queue,
                evidence={"queue": queue, "waiting": length},
                remedy="Do the workers hang (flask ops jobs history --status running)? If not, start another one, or"
                " raise WORKER_CONCURRENCY",
            )


def _configured_broker() -> Broker:
    configured = job_broker()
    if not configured.is_configured:
        raise UnknownState("No broker is configured for this process.", remedy="Set CELERY_BROKER_URL")
    return configured
