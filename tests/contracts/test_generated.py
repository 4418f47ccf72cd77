"""The generated files: up to date, and detected when they are not."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import Field, SecretStr

from app.config.values import Group
from ops.catalogue.jobs import JOBS
from ops.doctor.registry import CHECKS
from ops.generate import __main__ as command
from ops.generate.files import FILES, ROOT, stale_files, write_files
from ops.generate.settings import env_example, settings_page
from ops.generate.tables import jobs_table, with_tables


def test_generated_files_are_up_to_date() -> None:
    assert stale_files() == [], "these files are generated from the code: run `make generate` and commit them"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the generated files to a folder of the test."""
    for file in FILES:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file.path, tmp_path / file.path)
    write_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".env.example", "#HOST="),
        ("docs/settings.md", "| `HOST` |"),
        ("docs/runbooks/README.md", f"| `{CHECKS[0].id}` |"),
        ("docs/runbooks/README.md", f"| `{JOBS[0].name}` |"),
        ("docs/operations.md", "| `flask ops routine daily` |"),
        ("docs/operations.md", "| `flask ops locks` |"),
    ],
)
def test_changed_file_is_stale_until_it_is_written(copy: Path, path: str, text: str) -> None:
    assert stale_files(copy) == []
    changed = copy / path
    generated = changed.read_text()
    assert text in generated
    changed.write_text(generated.replace(text, "something else"))
    assert stale_files(copy) == [path]
    assert write_files(copy) == [path]
    assert changed.read_text() == generated


def test_missing_file_is_written(copy: Path) -> None:
    (copy / "docs" / "settings.md").unlink()
    assert write_files(copy) == ["docs/settings.md"]


def test_check_prints_one_line_per_stale_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "stale_files", lambda: ["docs/settings.md", ".env.example"])
    done = CliRunner().invoke(command.main, ["--check"])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "docs/settings.md is out of date: run `make generate`",
        ".env.example is out of date: run `make generate`",
    ]
    monkeypatch.setattr(command, "stale_files", list)
    assert CliRunner().invoke(command.main, ["--check"]).exit_code == 0


def test_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers <!-- jobs -->"):
        with_tables("# Runbooks\n", {"jobs": jobs_table})


def test_setting_row_has_type_default_and_bounds() -> None:
    class Example(Group):
        on: bool = Field(True, validation_alias="SOME_ON", description="Either | or.")
        share: float = Field(0.5, gt=0, le=1, validation_alias="SOME_SHARE", description="How much.")
        names: list[str] = Field(["a", "b"], validation_alias="SOME_NAMES", description="Who.")
        key: SecretStr | None = Field(None, min_length=8, validation_alias="SOME_KEY", description="What.")

    page = settings_page({"example": Example})
    assert "| `SOME_ON` | `true` | true or false | Either \\| or. |" in page
    assert "| `SOME_SHARE` | `0.5` | number, above 0, at most 1 | How much. |" in page
    assert "| `SOME_NAMES` | `a,b` | list | Who. |" in page
    assert "| `SOME_KEY` | unset | secret, at least 8 characters | What. |" in page
    example = env_example({"example": Example})
    assert "# How much. (number, above 0, at most 1)\n#SOME_SHARE=0.5\n" in example


def test_example_has_comments_only() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
