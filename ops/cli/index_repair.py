"""`flask ops index plan` and `apply`: plan repairs, and apply a plan."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ops.checks.context import open_check_context
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.cli.rendering import STYLES, report_console
from ops.formatting import format_size
from ops.indexes.apply import apply
from ops.indexes.apply_report import ApplyReport, Outcome
from ops.indexes.plan_file import as_data, read_plan, write_plan
from ops.indexes.planning import SOURCES, Plan, make_plan
from ops.indexes.steps import Step
from ops.runs.audit import audited

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_COLORS = {Outcome.DONE: "green", Outcome.FAILED: "bold red", Outcome.HELD_BACK: "yellow"}


class Bytes(click.ParamType[int]):
    """A size in bytes, for example 20GB, 512M or 1073741824."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([KMGT]?)i?B?", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a size; write for example 20GB.", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


@command("plan")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Plan file; - writes none.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SOURCES)), metavar="CHECK", help="Only the findings of this check."
)
@click.option("--all-tables", is_flag=True, help="Include tables that are not Parley's.")
@json_option
def plan(out: Path | None, only: Sequence[str], all_tables: bool, json: bool) -> None:
    """Write a plan that fixes the findings: statements, locks, sizes, times and undo."""
    with open_check_context() as context:
        new_plan = make_plan(context, only=only, all_tables=all_tables)
    path = None
    if new_plan.steps and str(out) != "-":
        path = out or Path(f"index-plan-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")
        write_plan(new_plan, path)
    report = {"file": str(path) if path else None, "plan": as_data(new_plan)}
    print_report("index plan", report, json=json, view=lambda console: _print_plan(console, new_plan, path))


@command("apply")
@click.option("--plan", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Plan file.")
@click.option(
    "--max-minutes", type=click.FloatRange(1, 1440), default=30, show_default=True, help="Time limit for all steps."
)
@click.option("--now", is_flag=True, help="Ignore INDEX_APPLY_HOURS.")
@click.option(
    "--assume-disk", type=Bytes(), help="Free disk space of the database host, for example 20GB; check it first."
)
@click.option("--dry-run", is_flag=True, help="Check all preconditions and change nothing.")
@yes_option
@json_option
def apply_plan(
    path: Path, max_minutes: float, now: bool, assume_disk: int | None, dry_run: bool, yes: bool, json: bool
) -> None:
    """Apply a plan step by step; preconditions are checked again before each step."""
    plan = read_plan(path)
    options: dict[str, Any] = {"max_minutes": max_minutes, "now": now, "assume_disk": assume_disk}
    if dry_run or not plan.steps:
        applied = apply(plan=plan, dry_run=True, **options)
    else:
        _print_plan(report_console(stderr=True), plan, path)
        question = ChangePlan(
            summary=f"apply {len(plan.steps)} steps to database {plan.database.name}, within {max_minutes:g} minutes",
            locks="; ".join(sorted({step.lock for step in plan.steps})),
            undo=f"the `undo` statements of each step in {path}",
        )
        confirm(question, yes=yes)
        steps = [{"check": step.check, "sql": step.sql} for step in plan.steps]
        with audited(
            actor=operator(), action="index.apply", target=plan.database.name, details={"plan": steps}
        ) as notes:
            applied = apply(plan=plan, **options)
            notes["level"] = applied.level
            notes["steps"] = [
                {"index": step.index, "outcome": step.outcome, "reason": step.reason, "left": step.left_behind}
                for step in applied.steps
            ]
    print_report(
        "index apply", applied, json=json, level=applied.level, view=lambda console: _print_applied(console, applied)
    )


def _print_plan(console: Console, new_plan: Plan, path: Path | None) -> None:
    for number, step in enumerate(new_plan.steps, 1):
        console.print(Text(f"{number:>3}  {step.reason}", style="bold"))
        for line in _lines(step):
            console.print(Text(f"     {line}", style="dim"))
    if new_plan.left_out:
        console.print(Text("\nLeft out:", style="bold"))
    for omission in new_plan.left_out:
        console.print(Text(f"     {omission.message} ({omission.check}: {omission.reason})", style="dim"))
    if not new_plan.steps:
        console.print("No repairs are needed; no file was written.")
    elif path:
        console.print(f"\nReview {path}, then run: flask ops index apply --plan {path}")


def _lines(step: Step) -> list[str]:
    sizes = f"table {format_size(step.table_bytes)}, index {format_size(step.index_bytes)}, about {step.minutes:g} min"
    return [f"{sql};" for sql in step.sql] + [sizes, step.lock, *(f"undo: {sql};" for sql in step.undo)]


def _print_applied(console: Console, applied: ApplyReport) -> None:
    for step in applied.steps:
        console.print(
            Text(f"{step.outcome:>22}  ", style=_COLORS.get(step.outcome, "")).append("; ".join(step.sql), style="bold")
        )
        notes = [step.reason, f"{step.seconds:g} s" if step.seconds else None]
        if "bytes" in step.before and "bytes" in step.after:
            notes.append(f"{format_size(step.before['bytes'])} before, {format_size(step.after['bytes'])} after")
        notes += [f"dropped invalid index: {name}" for name in step.cleaned]
        notes += [f"INVALID INDEX LEFT: {name}" for name in step.left_behind]
        for line in filter(None, notes):
            console.print(Text(f"{'':>24}{line}", style="dim"))
    if not applied.steps:
        console.print("The plan has no steps.")
    console.print(Text(f"\n{applied.level}", style=STYLES[applied.level]))
