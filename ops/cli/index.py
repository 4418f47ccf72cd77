"""`flask ops index`: what is wrong with the indexes, a plan that mends it, and its steps."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ops import doctor as clinic
from ops.audit import audited
from ops.catalogue import INDEX_CHECKS
from ops.checks.indexes.steps import Step
from ops.cli.doctor import show_examination
from ops.cli.frame import Plan as Question
from ops.cli.frame import ask, json_option, operator, ops, tell, yes_option
from ops.cli.rendering import STYLES
from ops.indexes.apply import Applied, Outcome, apply
from ops.indexes.planfile import as_data, read_plan, write_plan
from ops.indexes.planning import SOURCES, Plan, make_plan
from ops.words import size

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_COLORS = {Outcome.DONE: "green", Outcome.FAILED: "bold red", Outcome.HELD_BACK: "yellow"}


class Bytes(click.ParamType[int]):
    """`20GB`, `512M`, `1073741824`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([KMGT]?)i?B?", str(value), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no size; write it like 20GB.", param, ctx)
        return int(float(found[1]) * _UNITS[found[2].upper()])


@ops.group("index")
def index() -> None:
    """The indexes: what is wrong, and what mends it."""


@index.command("check")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check; may be repeated.")
@json_option
def check(only: Sequence[str], json: bool) -> None:
    """Ask every check of the indexes and what belongs to them, also whether one is damaged (a minute at most)."""
    names = [name for each in only for name in each.split(",")]
    try:
        checks = clinic.select(names or [each.id for each in INDEX_CHECKS], thorough=True, checks=INDEX_CHECKS)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    examination = clinic.examine(checks=checks)
    tell(
        "index check",
        examination,
        json=json,
        level=examination.level,
        view=lambda console: show_examination(console, examination),
    )


@index.command("plan")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write; - writes none.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SOURCES)), metavar="CHECK", help="Only what this one finds."
)
@click.option("--all-tables", is_flag=True, help="Plan also on tables that are not Parley's.")
@json_option
def plan(out: Path | None, only: Sequence[str], all_tables: bool, json: bool) -> None:
    """Write down what would mend the findings: statements, locks, sizes, times, and how to take each back."""
    with clinic.probing() as probe:
        made = make_plan(probe, only=only, all_tables=all_tables)
    path = None
    if made.steps and str(out) != "-":
        path = out or Path(f"index-plan-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")
        write_plan(made, path)
    report = {"file": str(path) if path else None, "plan": as_data(made)}
    tell("index plan", report, json=json, view=lambda console: _show_plan(console, made, path))


@index.command("apply")
@click.option("--plan", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file.")
@click.option(
    "--max-minutes", type=click.FloatRange(1, 1440), default=30, show_default=True, help="Time for all steps."
)
@click.option("--now", is_flag=True, help="Also outside of INDEX_APPLY_HOURS.")
@click.option(
    "--assume-disk", type=Bytes(), help="What is free where the database runs, such as 20GB, if you have looked."
)
@click.option("--dry-run", is_flag=True, help="Look at everything and change nothing.")
@yes_option
@json_option
def apply_plan(
    path: Path, max_minutes: float, now: bool, assume_disk: int | None, dry_run: bool, yes: bool, json: bool
) -> None:
    """Apply a plan: one step at a time, each looked at again before it begins."""
    read = read_plan(path)
    options: dict[str, Any] = {"max_minutes": max_minutes, "now": now, "assume_disk": assume_disk}
    if dry_run or not read.steps:
        applied = apply(plan=read, dry_run=True, **options)
    else:
        _show_plan(Console(stderr=True, highlight=False), read, path)
        question = Question(
            does=f"apply {len(read.steps)} steps to database {read.database.name}, within {max_minutes:g} minutes",
            locks="; ".join(sorted({step.lock for step in read.steps})),
            undo=f"what `undo` says of each step in {path}",
        )
        ask(question, yes=yes)
        steps = [{"check": step.check, "sql": step.sql} for step in read.steps]
        with audited(by=operator(), action="index.apply", on=read.database.name, details={"plan": steps}) as notes:
            applied = apply(plan=read, **options)
            notes["level"] = applied.level
            notes["steps"] = [
                {"index": step.index, "outcome": step.outcome, "reason": step.reason, "left": step.left_behind}
                for step in applied.steps
            ]
    tell("index apply", applied, json=json, level=applied.level, view=lambda console: _show_applied(console, applied))


def _show_plan(console: Console, made: Plan, path: Path | None) -> None:
    for number, step in enumerate(made.steps, 1):
        console.print(Text(f"{number:>3}  {step.why}", style="bold"))
        for line in _lines(step):
            console.print(Text(f"     {line}", style="dim"))
    if made.left_out:
        console.print(Text("\nLeft out:", style="bold"))
    for each in made.left_out:
        console.print(Text(f"     {each.what} ({each.check}: {each.why})", style="dim"))
    if not made.steps:
        console.print("There is nothing to plan, so no file was written.")
    elif path:
        console.print(f"\nRead {path}, then: flask ops index apply --plan {path}")


def _lines(step: Step) -> list[str]:
    sizes = f"table {size(step.table_bytes)}, index {size(step.index_bytes)}, about {step.minutes:g} min"
    return [f"{sql};" for sql in step.sql] + [sizes, step.lock, *(f"undo: {sql};" for sql in step.undo)]


def _show_applied(console: Console, applied: Applied) -> None:
    for step in applied.steps:
        console.print(
            Text(f"{step.outcome:>22}  ", style=_COLORS.get(step.outcome, "")).append("; ".join(step.sql), style="bold")
        )
        told = [step.reason, f"{step.seconds:g} s" if step.seconds else None]
        if "bytes" in step.before and "bytes" in step.after:
            told.append(f"{size(step.before['bytes'])} before, {size(step.after['bytes'])} after")
        told += [f"dropped what it left: {name}" for name in step.cleaned]
        told += [f"LEFT BEHIND, not valid: {name}" for name in step.left_behind]
        for line in filter(None, told):
            console.print(Text(f"{'':>24}{line}", style="dim"))
    if not applied.steps:
        console.print("The plan has no steps.")
    console.print(Text(f"\n{applied.level}", style=STYLES[applied.level]))
