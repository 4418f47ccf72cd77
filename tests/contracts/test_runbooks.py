"""Runbook pages against the catalogue: title, severity, headings, and the fields of job reports."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from ops.catalogue.alerts import ALERTS
from ops.catalogue.declarations import Job, load
from ops.catalogue.jobs import JOBS
from ops.checks.declaration import Check
from ops.doctor.registry import CHECKS

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
# Of PostgreSQL, not of Parley.
FOREIGN_MESSAGES = {"canceling statement due to statement timeout", "permission denied for table"}
HEADINGS = ["Symptom", "Meaning", "Who is affected", "Diagnose", "Fix", "Resolved when"]

ALERT_PAGES = sorted(
    {alert.runbook for alert in ALERTS} - {check.runbook for check in CHECKS} - {job.runbook for job in JOBS}
)
PAGES = [*(check.runbook for check in CHECKS), *(job.runbook for job in JOBS), *ALERT_PAGES]

per_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
per_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)


def test_every_page_has_a_check_a_job_or_an_alert() -> None:
    names = {Path(page).name for page in PAGES}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - names == {"README.md"}


@pytest.mark.parametrize("path", PAGES)
def test_page_has_the_six_headings_in_order_and_text_below_each(path: str) -> None:
    page = (ROOT / path).read_text()
    assert re.findall(r"^#+ (.+)$", page, re.MULTILINE)[1:] == HEADINGS
    sections = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert all(section.strip() for section in sections)


@per_check
def test_page_of_a_check_states_question_severity_and_resolution(check: Check) -> None:
    page = (ROOT / check.runbook).read_text()
    assert page.startswith(f"# {check.id}\n\n{check.question}\n\nSeverity: ")
    severity = page.split("\n\n")[2]
    assert str(check.severity) in severity
    resolved = page.partition("## Resolved when")[2].replace("\n", " ")
    assert f"`flask ops doctor --only {check.id}` reports ok" in resolved


@pytest.mark.parametrize("path", ALERT_PAGES)
def test_page_of_an_alert_names_it_and_its_severity(path: str) -> None:
    page = (ROOT / path).read_text()
    title, _, severity = page.split("\n\n")[:3]
    for alert in ALERTS:
        if alert.runbook == path:
            assert alert.name in title
            assert alert.severity in severity


@per_job
def test_page_of_a_job_states_description_and_severity(job: Job) -> None:
    page = (ROOT / job.runbook).read_text()
    assert page.startswith(f"# {job.name}\n\n{job.description}\n\nSeverity: ")


@per_job
def test_page_of_a_job_names_only_fields_of_its_report(job: Job) -> None:
    page = (ROOT / job.runbook).read_text()
    tables = re.findall(r"^\| report field \| meaning \|\n\|[- |]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    report = inspect.get_annotations(load(job.function), eval_str=True)["return"]
    assert named - set(_field_names(report)) == set()


def test_pages_quote_messages_that_the_code_has() -> None:
    """In the tables of findings and reasons; `...` stands for the variable part of a message."""
    code = "\n".join(_strings())
    missing = []
    for path in sorted(RUNBOOKS.glob("*.md")):
        for table in re.findall(
            r"^\| (?:finding|reason) \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", path.read_text(), re.MULTILINE
        ):
            quotes = [quote for row in table.splitlines() for quote in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
            parts = {part.strip() for quote in quotes for part in quote.split("...")} - FOREIGN_MESSAGES
            missing += [f"{path.name}: {part}" for part in sorted(parts) if part not in code]
    assert missing == []


def _strings() -> Iterator[str]:
    """Yield the string constants of the product's code, also the constant parts of f-strings."""
    for package in ("app", "ops"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _field_names(annotation: Any) -> Iterator[str]:
    """Yield the fields of the dataclasses in `annotation`, at any depth."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = get_type_hints(annotation)
        for field in fields(annotation):
            yield field.name
            yield from _field_names(hints[field.name])
    for argument in get_args(annotation):
        yield from _field_names(argument)
