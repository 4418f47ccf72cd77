"""The catalogue against everything that comes from it: functions, runbooks, their index, the command line."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops import runbook_index
from ops.catalogue import CHECKS, JOBS
from ops.checks.probe import Probe
from ops.declarations import Check, load

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"


def test_ids_and_runbooks_are_one_for_each() -> None:
    ids = [check.id for check in CHECKS]
    pages = [each.runbook for each in (*CHECKS, *JOBS)]
    assert len(set(ids)) == len(ids)
    assert len(set(pages)) == len(pages)
    assert not set(ids) & {check.group for check in CHECKS}  # `--only` takes either


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_is_declared_in_full(check: Check) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", check.id)
    assert re.fullmatch(r"[A-Z].*\?", check.asks)
    function = load(check.where)
    assert list(inspect.signature(function).parameters) == ["probe"], check.where
    assert inspect.get_annotations(function, eval_str=True)["probe"] is Probe
    assert function.__doc__
    page = (ROOT / check.runbook).read_text()
    assert page.startswith(f"# {check.id}\n\n{check.asks}\n")


def test_no_page_is_about_what_is_gone() -> None:
    known = {Path(each.runbook).name for each in (*CHECKS, *JOBS)}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - known - {"README.md"} == set()


def test_the_list_of_runbooks_is_up_to_date() -> None:
    done = CliRunner().invoke(runbook_index.main, ["--check"])
    assert done.exit_code == 0, done.output


def test_a_change_of_the_catalogue_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(runbook_index.PAGE.read_text().replace(f"| `{CHECKS[0].id}` |", "| `gone.check` |"))
    monkeypatch.setattr(runbook_index, "PAGE", page)
    assert CliRunner().invoke(runbook_index.main, ["--check"]).exit_code == 1
    assert CliRunner().invoke(runbook_index.main).exit_code == 0
    assert CliRunner().invoke(runbook_index.main, ["--check"]).exit_code == 0


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table of jobs"):
        runbook_index.written("# Runbooks\n")


def test_every_module_of_checks_is_asked() -> None:
    """A module that declares a check which nobody put into the catalogue would never be asked."""
    asked = {check.where.partition(":")[0] for check in CHECKS}
    with_checks = set()
    for path in (ROOT / "ops" / "checks").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if re.search(r"^def [a-z]\w*\(probe: Probe\) -> Iterator\[Finding\]:", path.read_text(), re.MULTILINE):
            with_checks.add(name)
    assert with_checks - asked == set()


def test_what_is_declared_is_plain_data() -> None:
    """So that the beat, which has no database, can read it."""
    for each in (*CHECKS, *JOBS):
        assert all(not callable(getattr(each, field.name)) for field in fields(each))
