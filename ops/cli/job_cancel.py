"""`flask ops jobs cancel`."""

from uuid import UUID

import click
from rich.console import Console

from ops.cli.actions import operator
from ops.cli.base import command, json_option, print_report
from ops.levels import Level
from ops.runs.audit import audited
from ops.runs.cancellations import CancelledRun, CancelledWhile, cancel_run, find_cancellable


@command("cancel")
@click.argument("run_id", type=click.UUID, metavar="RUN")
@click.option("--reason", required=True, help="Why it is cancelled; stored and audited.")
@json_option
def cancel(run_id: UUID, reason: str, json: bool) -> None:
    """Cancel a run that waits, runs, or waits to be tried again; RUN is its id or that of its message.

    A waiting run does not begin. A running one is interrupted, and its process is killed if it has not ended after ten
    seconds. Neither is retried. Exit code 1 if no worker replies that it ends the run.
    """
    by, found = operator(), find_cancellable(run_id)
    details = {"message_id": found.message_id, "reason": reason}
    with audited(actor=by, action="job.cancel", target=found.job, details=details) as notes:
        cancelled = cancel_run(found, reason=reason, by=by)
        notes["cancelled_while"], notes["worker"] = cancelled.cancelled_while, cancelled.worker
    is_ending = cancelled.cancelled_while is CancelledWhile.WAITING or cancelled.worker is not None
    level = Level.OK if is_ending else Level.WARNING
    print_report("jobs cancel", cancelled, json=json, level=level, view=lambda console: _print(console, cancelled))


def _print(console: Console, cancelled: CancelledRun) -> None:
    job = cancelled.job or f"the message {cancelled.message_id}"
    if cancelled.cancelled_while is CancelledWhile.WAITING:
        console.print(f"{job} will not begin: a worker records its run as cancelled when it receives the message.")
    elif cancelled.worker is None:
        console.print(
            f"No worker replied that it runs {job}. If one does, the run goes on to its end, and is not tried again:"
            " flask ops jobs workers",
            style="yellow",
        )
    else:
        console.print(
            f"{cancelled.worker} ends {job} in process {cancelled.pid}: flask ops jobs show {cancelled.run_id}"
        )
