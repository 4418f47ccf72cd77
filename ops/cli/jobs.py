"""`flask ops jobs`: list, run and inspect jobs; pause, repeat or cancel them."""

import click

from ops.cli.entry_points import LazyGroup

SUBCOMMANDS = {
    "cancel": (
        "ops.cli.job_cancel:cancel",
        "Cancel a run that waits, runs, or waits to be tried again; RUN is its id or that of its message.",
    ),
    "history": ("ops.cli.job_list:show_history", "List recorded runs, newest first; `jobs show` prints a full report."),
    "list": ("ops.cli.job_list:list_jobs", "List all jobs with their last run and next due time."),
    "pause": (
        "ops.cli.job_changes:pause",
        "Pause a scheduled job: workers skip what beat requests, until it is resumed.",
    ),
    "purge": ("ops.cli.job_changes:purge", "Delete the messages of a queue that no worker has received."),
    "resume": ("ops.cli.job_changes:resume", "Resume a paused job; it runs in its next slot."),
    "retry": ("ops.cli.job_changes:retry", "Enqueue a failed, lost or cancelled run again, with the same arguments."),
    "run": ("ops.cli.job_run:run", "Run a job in this process and wait for its end."),
    "show": ("ops.cli.job_list:show_run", "Show one run with its full report."),
    "workers": ("ops.cli.job_changes:show_workers", "Show the workers, what they run, and the queues."),
}


@click.group("jobs", cls=LazyGroup, subcommands=SUBCOMMANDS)
def jobs() -> None:
    """List, run, inspect, pause and cancel jobs."""
