"""The clock and its work: whether the beat beats, what failed, what is late, and whether the queue takes anything."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from app.jobs import JobQueue, job_queue
from app.logs import redact
from app.models.job_run import JobRunStatus
from app.repositories import job_runs as sql
from app.repositories.statement import Statement
from ops.catalogue import BEAT_TICK, JOBS
from ops.checks.probe import Probe
from ops.declarations import Job
from ops.findings import CannotJudge, Finding
from ops.levels import Level
from ops.runs import QUIET
from ops.words import span

SILENT, DEAD = timedelta(minutes=2), timedelta(minutes=5)  # without a tick, which comes twice a minute
LATE = timedelta(minutes=5)  # beyond the end of a run that began in its slot and took as long as it may
SLOTS_MISSED, VERY_LATE = 3, timedelta(days=1)  # beyond both it is critical; a beat that is back needs a moment
IN_A_ROW = 3  # failures of one job
WAITING, MANY_WAITING = 1_000, 10_000  # messages in a queue

# The first run that a beat asked for: what was due before it began was not this installation's to do.
FIRST = Statement(
    "ops.first_run",
    """
SELECT min((SELECT started_at FROM job_runs WHERE job_runs.job = wanted.job AND slot IS NOT NULL
             ORDER BY started_at LIMIT 1)) AS started_at
  FROM unnest(%(jobs)s::text[]) AS wanted(job)""",
)
# The newest ones of each job that came to an end, and how many of them failed since the last that did not.
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


def beat(probe: Probe) -> Iterator[Finding]:
    """A finding if no worker has run the beat's own job for a while: the beat, the broker or the workers are away."""
    row = sql.LAST.one(probe.connection, {"jobs": [BEAT_TICK.name]})
    remedy = f"See {BEAT_TICK.runbook}: is the broker there, is a beat, is a worker? `make up` runs them all"
    if row is None or row.succeeded is None:
        yield Finding(
            level=Level.CRITICAL,
            what="The beat has never been heard: no job runs by itself.",
            evidence={"last_attempt": row.attempted if row is not None else None},
            remedy=remedy,
        )
        return
    silence = probe.now - row.succeeded
    if silence >= SILENT:
        yield Finding(
            level=Level.CRITICAL if silence >= DEAD else Level.WARNING,
            what=f"The beat has been silent for {span(silence)}: no job runs by itself.",
            evidence={"last_success": row.succeeded, "last_attempt": row.attempted, "last_status": row.status},
            remedy=remedy,
        )


def failed(probe: Probe) -> Iterator[Finding]:
    """A finding for each job whose last run failed, or lost its worker."""
    rows = {row.job: row for row in FAILURES.all(probe.connection, {"jobs": [job.name for job in JOBS]})}
    for job in JOBS:
        if (row := rows.get(job.name)) is None:
            continue
        ended = "failed" if row.status == JobRunStatus.FAILED else "was cut off"
        times = f", {row.in_a_row} times in a row" if row.in_a_row > 1 else ""
        yield Finding(
            level=Level.CRITICAL if row.in_a_row >= IN_A_ROW else Level.WARNING,
            what=f"The last run of {job.name} {ended}{times}: {row.reason or 'nobody knows why'}",
            evidence={"started_at": row.started_at, "in_a_row": row.in_a_row},
            remedy=f"flask ops jobs history --job {job.name}; then flask ops jobs run {job.name}"
            if job.schedule
            else f"flask ops jobs history --job {job.name}",
        )


def overdue(probe: Probe) -> Iterator[Finding]:
    """A finding if jobs with a schedule have not run in the slot that was theirs, and for runs dated in the future.

    A job that an upgrade brought is due in its first slot after a worker heard of it.
    """
    jobs = [job for job in JOBS if job.schedule]
    names = {"jobs": [job.name for job in jobs]}
    yield from _ahead(probe)
    first = FIRST.one(probe.connection, names)
    if first is None or first.started_at is None:
        raise CannotJudge("No beat has ever asked for a job here.", remedy="flask ops doctor --only beat")
    attempted = {row.job: row.attempted for row in sql.LAST.all(probe.connection, names)}
    since, now = first.started_at, probe.now
    known = _known_since(probe, since, now)
    begun = {job: since if attempted[job.name] else known(job) for job in jobs}
    late = {job: slot for job in jobs if (slot := _missed(job, attempted[job.name], begun[job], now)) is not None}
    if not late:
        return
    grave = any(
        now - slot >= max(VERY_LATE, SLOTS_MISSED * job.schedule.every) for job, slot in late.items() if job.schedule
    )
    named = ", ".join(job.name for job in list(late)[:3]) + (f" and {len(late) - 3} more" if len(late) > 3 else "")
    yield Finding(
        level=Level.CRITICAL if grave else Level.WARNING,
        what=f"{'1 job has not run when it' if len(late) == 1 else f'{len(late)} jobs have not run when they'} should "
        f"have: {named}.",
        evidence={job.name: {"due": slot, "last_run": attempted[job.name]} for job, slot in late.items()},
        remedy="flask ops doctor --only beat; then flask ops jobs run JOB for what cannot wait",
    )


def _known_since(probe: Probe, first: datetime, now: datetime) -> Callable[[Job], datetime]:
    """Since when a job may be asked of this installation. Where nobody wrote that down: since the first run."""
    row = sql.KNOWN_SINCE.one(probe.connection, {})
    if row is None or not isinstance(row.value, dict):
        return lambda job: first
    moments = {job: datetime.fromisoformat(moment) for job, moment in row.value.items()}

    def known(job: Job) -> datetime:
        moment = moments.get(job.name, now)  # no worker has heard of it yet
        return max(first, moment) if moment <= now else first

    return known


def _ahead(probe: Probe) -> Iterator[Finding]:
    rows = sql.AHEAD.all(probe.connection, {"jobs": [job.name for job in JOBS]})
    ahead = {row.job: row.newest for row in rows if row.newest is not None}
    if ahead:
        yield Finding(
            level=Level.WARNING,
            what=f"Runs of {len(ahead)} jobs are dated in the future, up to {max(ahead.values()):%Y-%m-%d %H:%M} UTC: a"
            " clock was wrong. They do not count.",
            evidence=ahead,
            remedy="flask ops doctor --only connection.clock; once the database's clock is right, delete them",
            sql="DELETE FROM job_runs WHERE started_at > now();",
        )


def _missed(job: Job, attempted: datetime | None, since: datetime, now: datetime) -> datetime | None:
    """The first slot after its last run in which the job should have been done by now; None if there is none."""
    if job.schedule is None:
        return None
    # A slot that came right after a run, asked for by hand, was left out.
    slot = job.schedule.next_slot(max(attempted or since, since) + min(job.schedule.every / 2, QUIET))
    return slot if slot + job.longest + LATE < now else None


def broker(probe: Probe) -> Iterator[Finding]:
    """A finding if the broker does not answer."""
    jobs = _with_broker()
    if not jobs.answers():
        yield Finding(
            level=Level.CRITICAL,
            what="The broker does not answer: no job can be asked for, and none is taken.",
            evidence={"CELERY_BROKER_URL": "set" if probe.settings.jobs.broker_url else "unset, so the embedded one"},
            remedy="Start it, or correct CELERY_BROKER_URL; chats go on meanwhile",
        )


def waiting(probe: Probe) -> Iterator[Finding]:
    """A finding for each queue in which many messages wait."""
    jobs = _with_broker()
    try:
        lengths = jobs.lengths()
    except Exception as error:  # of whichever broker's client
        raise CannotJudge(
            f"The broker does not answer: {redact(f'{type(error).__name__}: {error}')}.",
            remedy="flask ops doctor --only queue",
        ) from error
    for queue, length in lengths.items():
        if length >= WAITING:
            yield Finding(
                level=Level.CRITICAL if length >= MANY_WAITING else Level.WARNING,
                what=f"{length:,} messages wait in the queue {queue}: the workers are too few, or stuck.",
                evidence={"queue": queue, "waiting": length},
                remedy="flask ops jobs history --status running; start another worker, or raise WORKER_CONCURRENCY",
            )


def _with_broker() -> JobQueue:
    jobs = job_queue()
    if jobs.broker is None:
        raise CannotJudge("No broker is configured for this process.", remedy="Set CELERY_BROKER_URL")
    return jobs
