"""The catalogue against everything that comes from it: functions, runbooks, their index, the command line."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ops import runbook_index
from ops.catalogue import CHECKS, DUTIES, JOBS
from ops.checks.probe import Probe
from ops.cli.nouns import ops
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
    assert str(check.worst) in page.lower()  # how bad it is, and how one knows that it is mended
    assert f"`flask ops doctor --only {check.id}` says ok" in page.replace("\n", " ")


def test_no_page_is_about_what_is_gone() -> None:
    known = {Path(each.runbook).name for each in (*CHECKS, *JOBS)}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - known - {"README.md"} == set()


def test_what_is_written_from_the_catalogue_and_the_commands_is_up_to_date() -> None:
    done = CliRunner().invoke(runbook_index.main, ["--check"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("page", "gone"),
    [
        ("runbooks/README.md", f"| `{CHECKS[0].id}` |"),
        ("runbooks/README.md", f"| `{JOBS[0].name}` |"),
        ("operations.md", "| `flask ops routine daily` |"),
        ("operations.md", "| `flask ops locks` |"),
    ],
)
def test_a_change_of_the_catalogue_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, gone: str
) -> None:
    (tmp_path / "runbooks").mkdir()
    tables = {}
    for path, its_tables in runbook_index.TABLES.items():
        copy = tmp_path / path.relative_to(runbook_index.DOCS)
        copy.write_text(path.read_text())
        tables[copy] = its_tables
    changed = tmp_path / page
    assert gone in changed.read_text()
    changed.write_text(changed.read_text().replace(gone, "| `something else` |"))
    monkeypatch.setattr(runbook_index, "TABLES", tables)
    monkeypatch.setattr(runbook_index, "DOCS", tmp_path)
    noticed = CliRunner().invoke(runbook_index.main, ["--check"])
    assert noticed.exit_code == 1
    assert f"docs/{page}: out of date" in noticed.output
    assert CliRunner().invoke(runbook_index.main).exit_code == 0
    assert CliRunner().invoke(runbook_index.main, ["--check"]).exit_code == 0


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table of jobs"):
        runbook_index.written(runbook_index.PAGE, "# Runbooks\n")


def named_commands() -> dict[str, click.Command]:
    """By their names without arguments: `jobs run`, `archive hold add`."""
    known = runbook_index.commands(ops, "flask ops")
    return {re.sub(r" [A-Z_]+\b", "", path).removeprefix("flask ops "): command for path, command in known}


def test_commands_that_pages_name_exist() -> None:
    """`flask ops noun verb`, in every page, with its long options. A noun alone may be named, too."""
    known = named_commands()
    nouns = {name.rpartition(" ")[0] for name in known} | {name.split()[0] for name in known}
    wrong = []
    for page in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"):
        for call in re.findall(r"flask ops ([a-z][^`\n|#;)]*)", page.read_text()):
            words = re.sub(r"[.,:]+(?= |$)", "", call).split()
            names = [" ".join(words[:length]) for length in range(min(3, len(words)), 0, -1)]
            command = next((known[name] for name in names if name in known), None)
            if command is not None:
                options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                if set(re.findall(r"(?<= )--[a-z-]+", call)) - options:
                    wrong.append(f"{page.name}: {call}")
            elif not (names[-1] in nouns and len(words) == 1) and names[0] not in nouns:
                wrong.append(f"{page.name}: {call}")
    assert wrong == []


def test_every_duty_is_a_job_with_a_page() -> None:
    for duty in DUTIES:
        page = (ROOT / duty.job.runbook).read_text()
        assert f"flask ops routine {duty.name}" in page
        for part in duty.parts:
            assert f"| {part.name} |" in page


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
