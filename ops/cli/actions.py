"""Parts of commands that change something: confirmation, the actor for the audit, running a job."""

import getpass
import socket
import sys
from dataclasses import dataclass
from functools import partial

import click

from app.enums import JobRunStatus
from app.errors import OwnSessionRequired
from ops.catalogue.declarations import Job, load
from ops.cli.exit_codes import FAILED
from ops.errors import AlreadyRunning
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.runs.run import RunRequest, RunResult, job_arguments, run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """A change that a command asks to confirm: its summary, the database locks it takes, how to undo it."""

    summary: str
    locks: str = "no noticeable locks"
    undo: str


def confirm(plan: ChangePlan, *, yes: bool) -> None:
    """Show the plan and ask for confirmation.

    Raises `click.Abort` if the operator declines, and `click.UsageError` without a terminal and without `--yes`.
    """
    click.echo(f"Will:  {plan.summary}\nLocks: {plan.locks}\nUndo:  {plan.undo}", err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("No terminal to ask for confirmation: pass --yes to proceed.")
    click.confirm("Proceed?", abort=True, err=True)


def run_inline(job: Job, *, dry_run: bool = False) -> RunResult:
    """Run a job in this process, audited, and return its result if it succeeded.

    Raises `AlreadyRunning` if the run was skipped, `InvalidInput` if the job has no dry run, and `OwnSessionRequired`.
    Exits with `FAILED` if the run failed.
    """
    arguments = job_arguments(job, dry_run=dry_run)
    with audited(actor=operator(), action="job.run", target=job.name, details=arguments) as notes:
        result = run_job(job, partial(load(job.function), **arguments), RunRequest(arguments=arguments))
        notes["run"], notes["status"] = str(result.id), result.status
    if result.status is JobRunStatus.SKIPPED:
        raise AlreadyRunning(f"{job.name} was not run: {result.reason}.")
    if isinstance(result.error, OwnSessionRequired):
        raise result.error
    if result.status is not JobRunStatus.SUCCEEDED:
        click.secho(f"parley: {job.name} failed: {result.reason}", err=True, fg="red")
        click.get_current_context().exit(FAILED)
    return result


def operator() -> Actor:
    """Return the audit actor for the login that runs the command."""
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        login = "unknown"
    return Actor(kind="command", name=f"{login}@{socket.gethostname()}")
