"""`flask ops jobs`: what the beat did and will do next, and any of it now."""

from datetime import UTC, datetime

import click

from app.models.job_run import JobRunStatus
from ops.audit import audited
from ops.catalogue import JOBS
from ops.cli.frame import LOCKED, json_option, operator, ops, tell
from ops.declarations import Job, load
from ops.history import history, overview
from ops.levels import Level
from ops.runs import Asked, run_job

SCHEDULED = {job.name: job for job in JOBS if job.schedule}


@ops.group("jobs")
def jobs() -> None:
    """What runs by itself."""


@jobs.command("list")
@json_option
def list_jobs(json: bool) -> None:
    """Every job: when it last ran, how that ended, and when it is due next."""
    tell("jobs list", overview(now=datetime.now(UTC)), json=json)


@jobs.command("run")
@click.argument("name", type=click.Choice(sorted(SCHEDULED)), metavar="JOB")
@json_option
def run(name: str, json: bool) -> None:
    """Run a job now, here, and wait for its end; not while another run of it is under way (exit code 4)."""
    job: Job = SCHEDULED[name]
    with audited(by=operator(), action="job.run", on=name) as notes:
        ended = run_job(job, load(job.where), Asked())
        notes["run"], notes["status"] = str(ended.id), ended.status
    failed = ended.status is not JobRunStatus.SUCCEEDED
    shown = {"run": ended.id, "status": ended.status, "seconds": round(ended.seconds, 3), "reason": ended.reason}
    report = {**shown, "report": ended.report}
    if ended.status is JobRunStatus.SKIPPED:
        click.echo(f"parley: {name} was not run: {ended.reason}", err=True)
        click.get_current_context().exit(LOCKED)
    tell("jobs run", report, json=json, level=Level.CRITICAL if failed else Level.OK)


@jobs.command("history")
@click.option("--job", "name", type=click.Choice([job.name for job in JOBS]), metavar="JOB", help="Only of this job.")
@click.option(
    "--status", type=click.Choice([status.value for status in JobRunStatus]), help="Only those that ended like this."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def show_history(name: str | None, status: str | None, limit: int, json: bool) -> None:
    """The last runs, the newest first, with their reports."""
    tell("jobs history", history(job=name, status=status, limit=limit), json=json)
