"""Tables of jobs, checks, routines and commands, between markers `<!-- name -->` and `<!-- /name -->` of a page."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from ops.catalogue.alerts import ALERTS, Alert
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import JOBS
from ops.checks.declaration import Check
from ops.cli.entry_points import ops
from ops.command_map import COMMAND_ONLY, REQUESTS
from ops.doctor.registry import CHECKS
from ops.routines.registry import ROUTINES, Routine


def with_tables(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return `page` with its tables generated again. Raises `ValueError` if the markers of a table are missing."""
    for name, generate in tables.items():
        head, opening, rest = page.partition(f"<!-- {name} -->\n")
        _, closing, tail = rest.partition(f"<!-- /{name} -->")
        if not closing:
            raise ValueError(f"no markers <!-- {name} --> and <!-- /{name} -->")
        page = f"{head}{opening}{generate()}\n{closing}{tail}"
    return page


def jobs_table(jobs: Sequence[Job] = JOBS) -> str:
    """Return the table of jobs, in the order of the catalogue."""
    rows = [f"| `{job.name}` | {job.schedule or 'on request'} | [{job.id}]({Path(job.runbook).name}) |" for job in jobs]
    return "\n".join(["| job | schedule | page |", "| --- | --- | --- |", *rows])


def checks_table(checks: Sequence[Check] = CHECKS) -> str:
    """Return the table of the doctor's checks, in the order in which they run."""
    rows = [
        f"| `{check.id}` | {check.question}{' (thorough)' if check.thorough else ''} | {check.severity} | "
        f"[{Path(check.runbook).stem}]({Path(check.runbook).name}) |"
        for check in checks
    ]
    return "\n".join(["| check | question | highest level | page |", "| --- | --- | --- | --- |", *rows])


def alerts_table(alerts: Sequence[Alert] = ALERTS) -> str:
    """Return the table of the alerts that no check has."""
    rows = [
        f"| `{alert.name}` | {alert.severity} | {alert.affected} | "
        f"[{Path(alert.runbook).stem}]({Path(alert.runbook).name}) |"
        for alert in alerts
    ]
    return "\n".join(["| alert | severity | who is affected | page |", "| --- | --- | --- | --- |", *rows])


def routines_table(routines: Sequence[Routine] = ROUTINES) -> str:
    """Return the table of the daily, weekly and monthly routines."""
    rows = [
        f"| `flask ops routine {routine.name}` | {routine.job.schedule} | "
        f"{', '.join(part.name for part in routine.parts)} | "
        f"[{routine.job.id}]({routine.job.runbook.removeprefix('docs/')}) |"
        for routine in routines
    ]
    return "\n".join(["| routine | schedule | parts | page |", "| --- | --- | --- | --- |", *rows])


def commands_table() -> str:
    """Return the table of all `flask ops` commands with the requests of the admin API that do the same."""
    rows = [
        f"| `{name}` | {command.get_short_help_str(200)} | {_requests(name)} |"
        for name, command in commands(ops, "flask ops")
    ]
    return "\n".join(["| command | description | request below `/api/admin` |", "| --- | --- | --- |", *rows])


def _requests(command: str) -> str:
    name = re.sub(r" [A-Z_]+\b", "", command).removeprefix("flask ops ")
    return "<br>".join(f"`{request}`" for request in REQUESTS.get(name, ())) or f"– ({COMMAND_ONLY.get(name)})"


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands below a group in alphabetical order, each with its path and arguments."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # noqa: S101  # it is in the list
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{path} {name}", command
            yield from commands(command, f"{path} {name}")
        else:
            arguments = [
                parameter.human_readable_name for parameter in command.params if isinstance(parameter, click.Argument)
            ]
            yield " ".join([path, name, *(argument.upper() for argument in arguments)]), command
