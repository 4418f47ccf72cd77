"""The catalogue against everything that comes from it: functions, runbooks, their index, the command line."""

import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from ops.catalogue import jobs as catalogue
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import JOBS
from ops.checks.declaration import Check, checks_of
from ops.doctor.index_registry import INDEX_CHECKS
from ops.doctor.registry import CHECKS, MODULES
from ops.routines.registry import ROUTINES, Part

ROOT = Path(__file__).parents[2]


def test_ids_and_runbooks_are_unique() -> None:
    ids = [check.id for check in CHECKS]
    pages = [*(check.runbook for check in CHECKS), *(job.runbook for job in JOBS)]
    assert len(set(ids)) == len(ids)
    assert len(set(pages)) == len(pages)
    assert not set(ids) & {check.group for check in CHECKS}  # `--only` takes either


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_check_declaration_is_complete(check: Check) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", check.id)
    assert re.fullmatch(r"[A-Z].*\?", check.question)
    assert check.function.__doc__


def test_every_routine_has_a_runbook() -> None:
    for routine in ROUTINES:
        page = (ROOT / routine.job.runbook).read_text()
        assert f"flask ops routine {routine.name}" in page
        for part in routine.parts:
            assert f"| {part.name} |" in page


PACKAGES = ("ops/doctor/checks", "ops/indexes/checks")


@pytest.mark.parametrize(
    "name",
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.stem != "__init__"
    ],
)
def test_module_of_checks_is_registered_and_declares_a_check(name: str) -> None:
    registered = {module.__name__: module for module in MODULES}
    assert name in registered, (
        f"{name} is not in MODULES of ops/doctor/registry.py or INDEX_MODULES of ops/doctor/index_registry.py, so its"
        " checks never run: add it, in the order in which checks depend on each other, or move it out of the package"
    )
    assert checks_of(registered[name]), f"{name} declares no check: move it out of the package"


def test_index_check_runs_every_check_of_indexes_and_tables() -> None:
    assert [check.id for check in CHECKS if check.group in ("indexes", "tables")] == [
        check.id for check in INDEX_CHECKS
    ]


def test_check_function_without_declaration_is_refused() -> None:
    module = ModuleType("contributed")
    source = """
from collections.abc import Iterator
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

@check("group.first", "Is it well?", severity=Level.WARNING)
def first(context: CheckContext) -> Iterator[Finding]:
    yield from ()

def second(context: CheckContext) -> Iterator[Finding]:
    yield from ()
"""
    exec(source, vars(module))  # a module as a contributor would write it
    with pytest.raises(
        TypeError, match=r"contributed\.second is a check without a declaration, so it would never run: add"
    ):
        checks_of(module)
    vars(module).pop("second")
    assert [declared.id for declared in checks_of(module)] == ["group.first"]


def test_every_declared_job_is_collected() -> None:
    assert [job for job in vars(catalogue).values() if isinstance(job, Job)] == list(JOBS)
    assert len({job.name for job in JOBS}) == len(JOBS)


def test_routine_with_unknown_check_is_refused() -> None:
    with pytest.raises(LookupError, match=r"There is no check storage\.dsk; known are "):
        Part(name="table growth", checks=("storage.dsk",))


def test_every_routine_job_has_a_routine() -> None:
    assert {routine.job.name for routine in ROUTINES} == {
        job.name for job in JOBS if job.name.startswith("routines.")
    }, "a job routines.* without a Routine in ops/routines/registry.py: declare it there"


def test_jobs_are_plain_data() -> None:
    """The beat reads them and must not load the application."""
    for job in JOBS:
        assert all(not callable(getattr(job, field.name)) for field in fields(job))
