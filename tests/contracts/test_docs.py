"""What the documents say is there: links, commands, routes, settings, modules. And what is generated is up to date."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from flask import Flask
from pydantic import Field, SecretStr
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.config import GROUPS, load_settings
from app.config_values import Group
from app.factory import create_app
from ops import settings_table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
# Variables that a page may name although they are no settings: of the Makefile and of the tests.
OTHER_VARIABLES = {"TESTS", "PYTHON", "UPGRADE", "TEST_DATABASE_URL"}
# What docker-compose.yml asks for beyond the settings.
COMPOSE_VARIABLES = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))

per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands() -> list[str]:
    """The lines of the README's shell blocks, without prompts."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    found = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert found
    return found


def anchors(page: Path) -> set[str]:
    """What one may point at inside a page, made from its headings as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@per_page
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        link = urlsplit(target)
        if link.scheme:
            continue
        place = (page.parent / link.path).resolve() if link.path else page
        if not place.exists() or (link.fragment and link.fragment not in anchors(place)):
            broken.append(target)
    assert broken == []


@per_page
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:app|docs|migrations|ops|tasks|tests)/[\w./-]*|[\w.-]+\.(?:toml|lock|py|yml))`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@per_page
def test_make_targets_and_modules_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    assert set(re.findall(r"(?:`|^\$? ?)make ([a-z0-9-]+)", text, re.MULTILINE)) <= targets
    modules = [ROOT / name.replace(".", "/") for name in re.findall(r"python -m (ops[\w.]*)", text)]
    assert [
        str(path) for path in modules if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
    ] == []


@per_page
def test_variables_that_are_named_are_settings(page: Path) -> None:
    known = {settings_table.variable(field) for group in GROUPS.values() for field in group.model_fields.values()}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b", page.read_text()))
    assert named - known - OTHER_VARIABLES - COMPOSE_VARIABLES - {"PR_SET_PDEATHSIG"} == set()


def test_the_test_command_is_the_one_that_a_change_must_pass() -> None:
    assert "make test" in commands()
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.fixture(scope="module")
def routes() -> Flask:
    """The application, for its routes: it never connects."""
    settings = load_settings(env_file=None)
    return create_app(
        replace(
            settings,
            database=settings.database.model_copy(update={"url": "postgresql+psycopg2://nobody@127.0.0.1:1/none"}),
            auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr("x" * 32)}),
        )
    )


def test_routes_that_the_walk_calls_exist(routes: Flask) -> None:
    adapter = routes.url_map.bind("localhost")
    calls = [line for line in " ".join(commands()).replace("\\", " ").split("curl ")[1:] if "$URL" in line]
    assert len(calls) > 5
    missing = []
    for call in calls:
        path = re.sub(r"\$\w+", "01a204c0-6fb0-740b-a04a-5c2dde16aefe", re.search(r"\$URL([^\s\"?]*)", call)[1])  # type: ignore[index]
        named = re.search(r"-X (\w+)", call)
        method = named[1] if named else "POST" if " -d " in call else "GET"
        try:
            adapter.match(path, method)
        except (NotFound, MethodNotAllowed):
            missing.append(f"{method} {path}")
    assert missing == []


def test_the_settings_page_and_the_example_are_up_to_date() -> None:
    """Also as people run it: `--check` says which file, and what to do."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.settings_table", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_setting_that_changed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_table, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    assert CliRunner().invoke(settings_table.main, ["--check"]).exit_code == 1
    assert CliRunner().invoke(settings_table.main).exit_code == 0
    assert CliRunner().invoke(settings_table.main, ["--check"]).exit_code == 0
    (tmp_path / ".env.example").write_text("HOST=elsewhere")
    stale = CliRunner().invoke(settings_table.main, ["--check"])
    assert stale.exit_code == 1
    assert ".env.example: out of date; run `python -m ops.settings_table`" in stale.output


def test_the_example_changes_nothing_until_it_is_edited() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_a_setting_is_described_by_its_kind_default_and_bounds() -> None:
    class Some(Group):
        on: bool = Field(True, validation_alias="SOME_ON", description="Either | or.")
        share: float = Field(0.5, gt=0, le=1, validation_alias="SOME_SHARE", description="How much.")
        names: list[str] = Field(["a", "b"], validation_alias="SOME_NAMES", description="Who.")
        key: SecretStr | None = Field(None, min_length=8, validation_alias="SOME_KEY", description="What.")

    page = settings_table.settings_table({"some": Some})
    assert "| `SOME_ON` | `true` | true or false | Either \\| or. |" in page
    assert "| `SOME_SHARE` | `0.5` | number, above 0, at most 1 | How much. |" in page
    assert "| `SOME_NAMES` | `a,b` | list | Who. |" in page
    assert "| `SOME_KEY` | unset | secret, at least 8 characters | What. |" in page
    assert "# How much. (number, above 0, at most 1)\n#SOME_SHARE=0.5\n" in settings_table.env_example({"some": Some})


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_each_decision_is_in_the_index_under_its_title(adr: Path) -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    number, title = re.match(r"# (\d{4})\. (.+)", adr.read_text()).groups()  # type: ignore[union-attr]
    assert adr.name.startswith(f"{number}-")
    assert f"| [{number}]({adr.name}) | {title} |" in index


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [adr.name[:4] for adr in ADRS] == [f"{number:04}" for number in range(1, len(ADRS) + 1)]
