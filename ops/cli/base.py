"""Parts shared by all `flask ops` commands: reports and types of options.

Reports go to standard output; progress, questions and errors go to standard error.
"""

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import click
from flask.cli import AppGroup, with_appcontext
from rich.console import Console

from ops.cli.rendering import as_json, report_console, show
from ops.levels import Level

MAX_DURATION = 10 * 365 * 86_400  # seconds
PIPE_WIDTH = 200  # columns, without a terminal

Function = TypeVar("Function", bound=Callable[..., Any])


def command(name: str) -> Callable[[Function], click.Command]:
    """Declare a command that runs in the context of the application."""

    def declare(function: Function) -> click.Command:
        return click.command(name)(with_appcontext(function))

    return declare


def group(name: str) -> Callable[[Function], AppGroup]:
    """Declare a group of such commands."""

    def declare(function: Function) -> AppGroup:
        return click.group(name, cls=AppGroup)(function)

    return declare


class DurationType(click.ParamType[timedelta]):
    """A duration: a number and one of s, min, h, d, w, for example 90min or 24h."""

    name = "duration"
    _units: ClassVar = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(s|min|h|d|w)", str(value))
        if match is None or not 0 < float(match[1]) * self._units[match[2]] <= MAX_DURATION:
            self.fail(
                f"{value!r} is not a duration; write for example 90min, 24h, 7d or 4w, up to ten years", param, ctx
            )
        return timedelta(seconds=float(match[1]) * self._units[match[2]])


def user_argument(function: Function) -> Function:
    """Add the argument `user_key`: the id or the email address of a user."""
    return click.argument("user_key", metavar="ID_OR_EMAIL")(function)


def json_option(function: Function) -> Function:
    """Add the option `--json`, which prints the report in the versioned JSON schema."""
    return click.option("--json", "json", is_flag=True, help="Print the report as JSON.")(function)


def yes_option(function: Function) -> Function:
    """Add the option `--yes`, which skips the confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def print_report(
    command: str,
    report: Any,
    *,
    json: bool,
    level: Level = Level.OK,
    view: Callable[[Console], None] | None = None,
) -> None:
    """Print a report (a dataclass, or a list of them) and exit with the code of `level`.

    `view` prints the report as text; by default all its fields are printed.
    """
    if json:
        click.echo(as_json(command, level, report))
    else:
        console = report_console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        if view is not None:
            view(console)
        else:
            show(console, report)
    sys.stdout.flush()
    if level.exit_code:
        click.get_current_context().exit(level.exit_code)
