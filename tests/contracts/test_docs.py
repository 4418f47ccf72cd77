"""Documents against the code: links, commands, routes, settings, modules, and generated pages."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.config import GROUPS, load_settings
from app.factory import create_app
from ops.generate.settings import COMPOSE, variable

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", CHANGELOG, *sorted((ROOT / "docs").rglob("*.md"))]
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
# Variables of the Makefile and of the tests, which pages may name besides settings.
OTHER_VARIABLES = {"PARLEY_DROP_AUDIT", "TESTS", "PYTHON", "UPGRADE", "TEST_DATABASE_URL"}
# Former names of settings, which only the changelog may mention.
RENAMED_SETTINGS = {
    "AI_BREAKER_FAILURES": "AI_CIRCUIT_FAILURES",
    "AI_BREAKER_SECONDS": "AI_CIRCUIT_OPEN_SECONDS",
    "ARCHIVE_PACE": "ARCHIVE_MESSAGES_PER_SECOND",
    "ARCHIVE_SLOW_MS": "ARCHIVE_PAUSE_P95_MS",
    "QUOTA_OUTPUT_TOKENS": "QUOTA_RESERVED_OUTPUT_TOKENS",
}
# Variables that docker-compose.yml reads; some of them are not settings.
# Compose itself reads the second kind.
COMPOSE_VARIABLES = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())) | {"COMPOSE_PROFILES"}

per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def commands() -> list[str]:
    """Return the lines of the README's shell blocks, without prompts."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert lines
    return lines


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_has_fewer_than_200_lines() -> None:
    assert len(README.read_text().splitlines()) < 200


@per_page
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        link = urlsplit(target)
        if link.scheme:
            continue
        target_page = (page.parent / link.path).resolve() if link.path else page
        if not target_page.exists() or (link.fragment and link.fragment not in anchors(target_page)):
            broken.append(target)
    assert broken == []


@per_page
def test_quoted_files_exist(page: Path) -> None:
    quoted = re.findall(
        r"`((?:app|docs|migrations|ops|tasks|tests)/[\w./-]*|[\w.-]+\.(?:toml|lock|py|yml))`", page.read_text()
    )
    assert [name for name in quoted if not (ROOT / name).exists()] == []


@per_page
def test_quoted_make_targets_and_modules_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    assert set(re.findall(r"(?:`|^\$? ?)make ([a-z0-9-]+)", text, re.MULTILINE)) <= targets
    modules = [ROOT / name.replace(".", "/") for name in re.findall(r"python -m (ops[\w.]*)", text)]
    assert [
        str(path) for path in modules if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
    ] == []


@per_page
def test_quoted_variables_are_settings(page: Path) -> None:
    quoted = set(re.findall(r"`([A-Z]+(?:_[A-Z0-9]+)+)\b", page.read_text()))
    former = set(RENAMED_SETTINGS) if page == CHANGELOG else set()
    others = OTHER_VARIABLES | COMPOSE_VARIABLES | {"PR_SET_PDEATHSIG"}
    assert quoted - setting_variables() - former - others == set()


def test_renamed_settings_are_in_the_changelog() -> None:
    text = CHANGELOG.read_text()
    assert [old for old, new in RENAMED_SETTINGS.items() if f"| `{old}` | `{new}` |" not in text] == []
    assert set(RENAMED_SETTINGS.values()) <= setting_variables()
    assert set(RENAMED_SETTINGS) & setting_variables() == set()


def setting_variables() -> set[str]:
    """Return the environment variables of all settings."""
    return {variable(field) for group in GROUPS.values() for field in group.model_fields.values()}


def test_readme_names_the_command_of_the_continuous_integration() -> None:
    assert "make test" in commands()
    # Its function `tests` runs make with this target, and the tests that failed once more.
    assert "tests test" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.fixture(scope="module")
def routes() -> Flask:
    """Create the application for its routes; it never connects."""
    settings = load_settings(env_file=None)
    return create_app(
        replace(
            settings,
            database=settings.database.model_copy(update={"url": "postgresql+psycopg2://none@127.0.0.1:1/none"}),
            auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr("x" * 32)}),
        )
    )


def test_routes_in_readme_commands_exist(routes: Flask) -> None:
    adapter = routes.url_map.bind("localhost")
    calls = [line for line in " ".join(commands()).replace("\\", " ").split("curl ")[1:] if "$URL" in line]
    assert len(calls) > 5
    missing = []
    for call in calls:
        path = re.sub(r"\$\w+", "01a204c0-6fb0-740b-a04a-5c2dde16aefe", re.search(r"\$URL([^\s\"?]*)", call)[1])  # type: ignore[index]
        option = re.search(r"-X (\w+)", call)
        method = option[1] if option else "POST" if " -d " in call else "GET"
        try:
            adapter.match(path, method)
        except (NotFound, MethodNotAllowed):
            missing.append(f"{method} {path}")
    assert missing == []


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_decision_is_in_the_index_with_its_title(adr: Path) -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    number, title = re.match(r"# (\d{4})\. (.+)", adr.read_text()).groups()  # type: ignore[union-attr]
    assert adr.name.startswith(f"{number}-")
    assert f"| [{number}]({adr.name}) | {title} |" in index


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_decision_has_the_standard_headings(adr: Path) -> None:
    headings = re.findall(r"^## (.+)$", adr.read_text(), re.MULTILINE)
    assert headings == ["Status", "Context", "Decision", "Consequences", "Measurements"]


def test_decisions_are_numbered_without_gap() -> None:
    assert [adr.name[:4] for adr in ADRS] == [f"{number:04}" for number in range(1, len(ADRS) + 1)]


def glossary_rows() -> list[tuple[str, str, str]]:
    """Return term, meaning and module of each row of the glossary."""
    rows = re.findall(r"^\| (.+?) \| (.+) \| (`.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(rows) > 100
    return rows


def defined_names(path: Path) -> Iterator[str]:
    """Yield the classes and top-level names of a module, or of each module of a package."""
    for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield node.name
            elif isinstance(node, ast.Assign):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_glossary_terms_are_sorted_and_unique() -> None:
    terms = [term.lower() for term, _, _ in glossary_rows()]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("row", glossary_rows(), ids=lambda row: row[0])
def test_glossary_modules_and_classes_exist(row: tuple[str, str, str]) -> None:
    quoted = re.findall(r"`([^`]+)`", row[2])
    paths = [ROOT / name for name in quoted if "/" in name]
    assert paths
    assert [str(path) for path in paths if not path.exists()] == []
    defined = {name for path in paths for name in defined_names(path) if path.suffix != ".md"}
    assert [name for name in quoted if "/" not in name and name not in defined] == []


@pytest.mark.parametrize("package", ["app", "ops"])
def test_layers_in_architecture_match_import_contracts(package: str) -> None:
    """A layer starts its line; two spaces separate its names from their description, which may have its own line."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    [drawing] = re.findall(rf"^<!-- layers {package} -->\n```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    indent = "" if package == "ops" else "  "
    drawn = re.findall(rf"^{indent}(?! )(.+?)(?:  .*)?$", drawing, re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
    assert drawn == layers, "docs/architecture.md must show the layers of pyproject.toml"


def test_env_example_has_every_variable_of_compose_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    listed = dict(re.findall(r"^#([A-Z_0-9]+)=(.*)$", example, re.MULTILINE))
    assert COMPOSE_VARIABLES - set(listed) == set()
    compose = (ROOT / "docker-compose.yml").read_text()
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^${}]*)\}", compose))
    assert {name: listed[name] for name in COMPOSE} == {name: defaults.get(name, "") for name in COMPOSE}


def test_deployment_page_names_only_variables_of_env_example() -> None:
    """Settings are compared with the code in all pages; this page also names those of Compose."""
    listed = set(re.findall(r"^#([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z0-9]+)+)[`=]", (ROOT / "docs" / "deployment.md").read_text()))
    assert named - listed == set()
