"""`flask ops jobs`: what the beat did and will do next, and any of it now."""

from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console

from app.errors import NotFound
from app.models.job_run import JobRunStatus
from ops.catalogue import JOBS
from ops.cli.frame import json_option, ops, run_now, tell
from ops.cli.rendering import cell, words
from ops.cli.reports import line, show_report
from ops.history import PastRun, history, overview, past_run

SCHEDULED = {job.name: job for job in JOBS if job.schedule}
_STYLES = {"succeeded": "green", "failed": "bold red", "lost": "red", "skipped": "dim", "running": "cyan"}


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
    ended = run_now(SCHEDULED[name])
    shown = {"run": ended.id, "status": ended.status, "seconds": round(ended.seconds, 3), "report": ended.report}

    def view(console: Console) -> None:
        console.print(f"{name} {ended.status} in {ended.seconds:.2f} s, as run {ended.id}.")
        show_report(console, ended.report)

    tell("jobs run", shown, json=json, view=view)


@jobs.command("history")
@click.option("--job", "name", type=click.Choice([job.name for job in JOBS]), metavar="JOB", help="Only of this job.")
@click.option(
    "--status", type=click.Choice([status.value for status in JobRunStatus]), help="Only those that ended like this."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def show_history(name: str | None, status: str | None, limit: int, json: bool) -> None:
    """The last runs, the newest first, each with its report in a line; `jobs show` has the whole of it."""
    runs = history(job=name, status=status, limit=limit)
    tell("jobs history", runs, json=json, view=lambda console: _show_runs(console, runs))


@jobs.command("show")
@click.argument("run_id", type=click.UUID, metavar="RUN")
@json_option
def show_run(run_id: UUID, json: bool) -> None:
    """One run, with its whole report."""
    found = past_run(run_id)
    if found is None:
        raise NotFound(f"There is no run {run_id}; `flask ops jobs history` lists those that are kept.")

    def view(console: Console) -> None:
        _show_runs(console, [found])
        show_report(console, found.report)

    tell("jobs show", found, json=json, view=view)


def _show_runs(console: Console, runs: list[PastRun]) -> None:
    if not runs:
        console.print("Nothing.", style="dim")
    for each in runs:
        heading = words(f"{cell(each.started_at)}  ").append(f"{each.status:<9}", style=_STYLES.get(each.status, ""))
        heading.append(f"  {each.job}", style="bold")
        took = "" if each.seconds is None else f"  {each.seconds:.2f} s"
        console.print(heading.append(f"{took}  {each.id}", style="dim"))
        for told in filter(None, (each.reason, line(each.report))):
            console.print(words(f"    {told}"))
