"""The list of all generated files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ops.generate.grafana.dashboards import DASHBOARDS, generate, path_of
from ops.generate.prometheus import LONG_TESTS, RULES, TESTS, rule_tests_file, rules_file
from ops.generate.settings import env_example, settings_page
from ops.generate.tables import alerts_table, checks_table, commands_table, jobs_table, routines_table, with_tables

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file, by its path from the project's folder, and the function that generates its text from the current one."""

    path: str
    generate: Callable[[str], str]


FILES = (
    *(GeneratedFile(path_of(dashboard), lambda _, chosen=dashboard: generate(chosen)) for dashboard in DASHBOARDS),  # type: ignore[misc]
    GeneratedFile("docs/settings.md", lambda _: settings_page()),
    GeneratedFile(".env.example", lambda _: env_example()),
    GeneratedFile(
        "docs/runbooks/README.md",
        partial(with_tables, tables={"jobs": jobs_table, "checks": checks_table, "alerts": alerts_table}),
    ),
    GeneratedFile(RULES, lambda _: rules_file()),
    GeneratedFile(TESTS, lambda _: rule_tests_file(TESTS)),
    GeneratedFile(LONG_TESTS, lambda _: rule_tests_file(LONG_TESTS)),
    GeneratedFile(
        "docs/operations.md", partial(with_tables, tables={"routines": routines_table, "commands": commands_table})
    ),
)


def stale_files(root: Path = ROOT) -> list[str]:
    """Return the paths of the generated files that are missing or out of date."""
    return [file.path for file in FILES if _read(root / file.path) != file.generate(_read(root / file.path))]


def write_files(root: Path = ROOT) -> list[str]:
    """Write the generated files that are missing or out of date; return their paths."""
    stale = stale_files(root)
    for file in FILES:
        if file.path in stale:
            path = root / file.path
            path.write_text(file.generate(_read(path)))
    return stale


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
