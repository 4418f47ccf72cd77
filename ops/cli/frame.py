"""What every `flask ops` command shares: how it ends, how it asks, how it tells.

Exit codes: 0 ok · 1 warning · 2 critical, or the command failed · 3 could not judge · 4 another run holds the lock ·
64 the call makes no sense, or was answered with no. Standard output is data, standard error is progress and questions.
"""

import getpass
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import click
from flask.cli import AppGroup
from rich.console import Console
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.database import said
from app.errors import DatabaseUnavailable, InvalidInput, NotFound, ParleyError
from app.logs import redact
from app.models.job_run import JobRunStatus
from ops.actors import Actor
from ops.audit import audited
from ops.cli.rendering import as_json, show
from ops.cli.watching import watching
from ops.declarations import Job, load
from ops.errors import AnotherRunIsUnderWay
from ops.findings import CannotJudge
from ops.levels import Level
from ops.runs import Asked, Run, run_job

FAILED, CANNOT_JUDGE, LOCKED, USAGE = 2, 3, 4, 64
INTERRUPTED = 130  # as shells call whatever Ctrl-C ends
LONGEST_SPAN = 10 * 365 * 86_400  # seconds
PIPE_WIDTH = 200  # columns, where there is no terminal to ask

_log = logging.getLogger("parley.ops")

Function = TypeVar("Function", bound=Callable[..., Any])


class OpsGroup(AppGroup):
    """A group whose commands end as the module says, whatever they raise."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            error.exit_code = USAGE  # type: ignore[misc]  # click reads it from the instance
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with watching(), _without_chatter():
                return super().invoke(ctx)
        except click.UsageError as error:
            error.exit_code = USAGE  # type: ignore[misc]  # click reads it from the instance
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except click.Abort:
            click.echo("Nothing was done.", err=True)
            ctx.exit(USAGE)
        except (ParleyError, CannotJudge, DBAPIError, PoolTimeout) as error:
            message, code = _ending(error)
            click.secho(f"parley: {message}", err=True, fg="red")
            ctx.exit(code)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception:
            # A fault of ours. Python itself would end with 1, which here is a warning.
            _log.exception("a command failed")
            ctx.exit(FAILED)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """What goes well is told by the command itself, and not by log lines beside it, unless LOG_LEVEL is DEBUG."""
    log = logging.getLogger("parley")
    before = log.level
    if log.getEffectiveLevel() == logging.INFO:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


@click.group(cls=OpsGroup)
def ops() -> None:
    """Look after Parley: what is wrong, what ran, and what mends it.

    Exit codes: 0 ok, 1 warning, 2 critical, 3 could not judge, 4 another run holds the lock, 64 wrong call.
    """


def _ending(error: Exception) -> tuple[str, int]:
    if isinstance(error, AnotherRunIsUnderWay):
        return error.detail, LOCKED
    if isinstance(error, CannotJudge):
        return error.reason + (f" Try: {error.remedy}" if error.remedy else ""), CANNOT_JUDGE
    if isinstance(error, InvalidInput | NotFound):
        fields = "".join(f" {name}: {' '.join(told)}" for name, told in (error.fields or {}).items())
        return error.detail + fields, USAGE
    if isinstance(error, DatabaseUnavailable | PoolTimeout):
        return said(error), CANNOT_JUDGE
    if isinstance(error, DBAPIError):
        return f"The database answered: {redact(said(error))}", CANNOT_JUDGE
    return getattr(error, "detail", str(error)), FAILED


class Span(click.ParamType[timedelta]):
    """A span of time: a number and s, min, h, d or w, such as 90min or 24h."""

    name = "span"
    _units: ClassVar = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(s|min|h|d|w)", str(value))
        if found is None or not 0 < float(found[1]) * self._units[found[2]] <= LONGEST_SPAN:
            self.fail(f"{value!r} is no span of time: write 90min, 24h, 7d or 4w, up to ten years", param, ctx)
        return timedelta(seconds=float(found[1]) * self._units[found[2]])


def json_option(function: Function) -> Function:
    """`--json`: the report as data, in a schema with a version."""
    return click.option("--json", "json", is_flag=True, help="Print the report as JSON.")(function)


def yes_option(function: Function) -> Function:
    """`--yes`: do not ask."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(function)


def tell(
    command: str,
    report: Any,
    *,
    json: bool,
    level: Level = Level.OK,
    view: Callable[[Console], None] | None = None,
) -> None:
    """Print a report (a dataclass, or a list of them) and end with the exit code of `level`.

    `view` prints it for people; without one its fields are shown as they are.
    """
    if json:
        click.echo(as_json(command, level, report))
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
        if view is not None:
            view(console)
        else:
            show(console, report)
    sys.stdout.flush()
    if level.exit_code:
        click.get_current_context().exit(level.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a command is about to change. `locks` says what others will wait for, `undo` how it is taken back."""

    does: str
    locks: str = "none that anybody would notice"
    undo: str


def ask(plan: Plan, *, yes: bool) -> None:
    """Show the plan and ask; returns if the answer is yes. Raises `click.Abort`; with nobody to ask, `UsageError`."""
    click.echo(f"Will:  {plan.does}\nLocks: {plan.locks}\nUndo:  {plan.undo}", err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: give --yes if this is to be done.")
    click.confirm("Go on?", abort=True, err=True)


def run_now(job: Job) -> Run:
    """Run a job of the catalogue here, audited, and return how it ended if that is well.

    Ends the command with the code for `AnotherRunIsUnderWay` where it was not run, and with `FAILED` where it failed.
    """
    with audited(by=operator(), action="job.run", on=job.name) as notes:
        ended = run_job(job, load(job.where), Asked())
        notes["run"], notes["status"] = str(ended.id), ended.status
    if ended.status is JobRunStatus.SKIPPED:
        raise AnotherRunIsUnderWay(f"{job.name} was not run: {ended.reason}.")
    if ended.status is not JobRunStatus.SUCCEEDED:
        click.secho(f"parley: {job.name} failed: {ended.reason}", err=True, fg="red")
        click.get_current_context().exit(FAILED)
    return ended


def operator() -> Actor:
    """Who is at the command line."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        account = "unknown"
    return Actor(kind="command", name=f"{account}@{socket.gethostname()}")
