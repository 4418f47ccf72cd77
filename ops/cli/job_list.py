"""`flask ops jobs list`, `history` and `show`: reports that change nothing."""

from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console

from app.enums import JobRunStatus
from app.errors import NotFound
from ops.catalogue.jobs import JOBS
from ops.cli.base import command, json_option, print_report
from ops.cli.rendering import cell, words
from ops.cli.reports import line, print_report_details
from ops.runs.history import RecordedRun, find_run, job_overviews, recent_runs

_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "lost": "red",
    "skipped": "dim",
    "cancelled": "yellow",
    "running": "cyan",
}


@command("list")
@json_option
def list_jobs(json: bool) -> None:
    """List all jobs with their last run and next due time."""
    print_report("jobs list", job_overviews(now=datetime.now(UTC)), json=json)


@command("history")
@click.option(
    "--job", "name", type=click.Choice([job.name for job in JOBS]), metavar="JOB", help="Only runs of this job."
)
@click.option(
    "--status", type=click.Choice([status.value for status in JobRunStatus]), help="Only runs with this status."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of results.")
@json_option
def show_history(name: str | None, status: str | None, limit: int, json: bool) -> None:
    """List recorded runs, newest first; `jobs show` prints a full report."""
    runs = recent_runs(job=name, status=status, limit=limit)
    print_report("jobs history", runs, json=json, view=lambda console: _print_runs(console, runs))


@command("show")
@click.argument("run_id", type=click.UUID, metavar="RUN")
@json_option
def show_run(run_id: UUID, json: bool) -> None:
    """Show one run with its full report."""
    recorded = find_run(run_id)
    if recorded is None:
        raise NotFound(f"No run has the id {run_id}; `flask ops jobs history` lists the recorded runs.")

    def view(console: Console) -> None:
        _print_runs(console, [recorded])
        print_report_details(console, recorded.report)

    print_report("jobs show", recorded, json=json, view=view)


def _print_runs(console: Console, runs: list[RecordedRun]) -> None:
    if not runs:
        console.print("No runs.", style="dim")
    for recorded in runs:
        heading = words(f"{cell(recorded.started_at)}  ").append(
            f"{recorded.status:<9}", style=_STYLES.get(recorded.status, "")
        )
        heading.append(f"  {recorded.job}", style="bold")
        took = "" if recorded.seconds is None else f"  {recorded.seconds:.2f} s"
        console.print(heading.append(f"{took}  {recorded.id}", style="dim"))
        for note in filter(None, (recorded.reason, line(recorded.report))):
            console.print(words(f"    {note}"))
