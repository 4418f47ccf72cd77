"""`flask ops jobs run`."""

import click
from rich.console import Console

from ops.catalogue.jobs import JOBS
from ops.cli.actions import run_inline
from ops.cli.base import command, json_option, print_report
from ops.cli.reports import print_report_details

SCHEDULED = {job.name: job for job in JOBS if job.schedule}


@command("run")
@click.argument("name", type=click.Choice(sorted(SCHEDULED)), metavar="JOB")
@click.option("--dry-run", is_flag=True, help="Report what the job would change, without changing it.")
@json_option
def run(name: str, dry_run: bool, json: bool) -> None:
    """Run a job in this process and wait for its end.

    Exit code 4 while another run of it is in progress, 64 if the job has no dry run.
    """
    result = run_inline(SCHEDULED[name], dry_run=dry_run)
    document = {"run": result.id, "status": result.status, "seconds": round(result.seconds, 3), "report": result.report}

    def view(console: Console) -> None:
        console.print(f"{name} {result.status} in {result.seconds:.2f} s (run {result.id}).")
        print_report_details(console, result.report)

    print_report("jobs run", document, json=json, view=view)
