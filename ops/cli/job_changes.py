"""`flask ops jobs workers`, `pause`, `resume`, `retry` and `purge`."""

from uuid import UUID

import click
from rich.console import Console

from app.jobs import QUEUES
from ops.catalogue.jobs import JOBS
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.cli.rendering import table
from ops.levels import Level
from ops.runs.audit import audited
from ops.runs.pauses import pause_job, resume_job
from ops.runs.repeat import find_failed_run, repeat_run
from ops.runs.workers import WorkersReport, purge_queue, queue_lengths, read_workers

_SCHEDULED = click.Choice(sorted(job.name for job in JOBS if job.schedule))


@command("workers")
@json_option
def show_workers(json: bool) -> None:
    """Show the workers, what they run, and the queues.

    Waits a second for each of three replies. Exit code 1 if no worker replies.
    """
    report = read_workers()
    level = Level.OK if report.workers else Level.WARNING
    print_report("jobs workers", report, json=json, level=level, view=lambda console: _print_workers(console, report))


@command("pause")
@click.argument("name", type=_SCHEDULED, metavar="JOB")
@click.option("--reason", required=True, help="Why it is paused; stored and audited.")
@json_option
def pause(name: str, reason: str, json: bool) -> None:
    """Pause a scheduled job: workers skip what beat requests, until it is resumed."""
    by = operator()
    with audited(actor=by, action="job.pause", target=name, details={"reason": reason}):
        paused = pause_job(job=name, reason=reason, by=by)
    print_report("jobs pause", paused, json=json)


@command("resume")
@click.argument("name", metavar="JOB")
@json_option
def resume(name: str, json: bool) -> None:
    """Resume a paused job; it runs in its next slot."""
    with audited(actor=operator(), action="job.resume", target=name) as notes:
        resumed = resume_job(job=name)
        notes["paused_since"], notes["paused_by"] = resumed.since.isoformat(), resumed.by
    print_report("jobs resume", resumed, json=json)


@command("retry")
@click.argument("run_id", type=click.UUID, metavar="RUN")
@json_option
def retry(run_id: UUID, json: bool) -> None:
    """Enqueue a failed, lost or cancelled run again, with the same arguments."""
    failed = find_failed_run(run_id)
    with audited(actor=operator(), action="job.retry", target=failed.job, details={"run": str(run_id)}) as notes:
        repeated = repeat_run(failed)
        notes["message_id"] = str(repeated.message_id)
    print_report("jobs retry", repeated, json=json)


@command("purge")
@click.argument("queue", type=click.Choice(QUEUES), metavar="QUEUE")
@yes_option
@json_option
def purge(queue: str, yes: bool, json: bool) -> None:
    """Delete the messages of a queue that no worker has received."""
    waiting = queue_lengths()[queue]
    confirm(
        ChangePlan(
            summary=f"delete the {waiting} messages that wait in the queue {queue}.",
            undo="none; periodic jobs find the necessary work again",
        ),
        yes=yes,
    )
    with audited(actor=operator(), action="queue.purge", target=queue, details={"waiting": waiting}) as notes:
        purged = purge_queue(queue=queue)
        notes["deleted"] = purged.deleted
    print_report("jobs purge", purged, json=json)


def _print_workers(console: Console, report: WorkersReport) -> None:
    if not report.workers:
        console.print("No worker replied: none runs, or all of them hang.", style="yellow")
    for worker in report.workers:
        processes = "unknown" if worker.processes is None else worker.processes
        console.print(
            f"{worker.name} (process {worker.pid}): {len(worker.running)} of {processes} running,"
            f" {worker.reserved} reserved"
        )
    running = [
        {
            "job": job.job,
            "worker": worker.name,
            "pid": job.pid,
            "seconds": "–" if job.seconds is None else f"{job.seconds:.1f}",
            "message": job.message_id,
        }
        for worker in report.workers
        for job in worker.running
    ]
    if running:
        table(console, running)
    table(console, [{"queue": queue.queue, "waiting": queue.waiting} for queue in report.queues])
