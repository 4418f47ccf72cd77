"""Every `flask` command quoted in pages, findings and errors exists, with its options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask_migrate.cli import db as migrate_group

from ops.catalogue.jobs import JOBS
from ops.cli.chat import chat
from ops.cli.entry_points import ops as ops_group
from ops.doctor.registry import CHECKS
from tests.contracts.test_docs import PAGES, ROOT

GROUPS: dict[str, click.Command] = {"ops": ops_group, "db": migrate_group, "chat": chat}
COMMAND = re.compile(r"\bflask (ops|db|chat)\b([^\n`]*)")
# The end of the command in its line: the next command, a comment, or the rest of the sentence.
END = re.compile(r"  |\.\.\.|[;|&>#()]|[,.:](?= |$)")
COMMON_OPTIONS = {"--help"}
NAMES = {  # valid names in the catalogue, by the option or command before them; placeholders such as NAME pass
    "--only": {check.id for check in CHECKS} | {check.group for check in CHECKS},
    "--job": {job.name for job in JOBS},
    "run": {job.name for job in JOBS},
}


def sources() -> Iterator[tuple[str, str]]:
    """Yield path and text of all pages, and of all strings in the code, including docstrings."""
    for page in PAGES:
        yield page.relative_to(ROOT).as_posix(), page.read_text()
    for folder in ("app", "ops", "tasks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in strings(path):
                yield path.relative_to(ROOT).as_posix(), text


def strings(path: Path) -> Iterator[str]:
    """Yield the strings of a module; `…` stands for the expressions of an f-string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def quoted_commands() -> Iterator[tuple[str, str]]:
    """Yield path and command line, without `flask`, of each quoted command."""
    for path, text in sources():
        for match in COMMAND.finditer(text):
            yield path, f"{match[1]}{END.split(match[2], maxsplit=1)[0]}"


def error_in(line: str) -> str | None:
    """Return the first error of a command line such as `ops jobs run archive.run`; None without one."""
    group, *words = line.split()
    command = GROUPS[group]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        subcommand = command.get_command(click.Context(command), name)
        if subcommand is None:
            return f"no command {name}"
        command = subcommand
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = [word.split("=")[0] for word in words if re.match("--[a-z]", word)]
    required = {param.opts[0] for param in command.params if isinstance(param, click.Option) and param.required}
    if used and not COMMON_OPTIONS.intersection(used) and (missing := required.difference(used)):
        return f"lacks {', '.join(sorted(missing))}"
    for word, following in zip([command.name, *words], [*words, ""], strict=True):
        option = str(word).split("=")[0]
        if re.match("--[a-z]", option) and option not in options | COMMON_OPTIONS:
            return f"no option {option}"
        if option in NAMES and re.fullmatch(r"[a-z_]+(\.[a-z_]+)?(,[a-z_.]+)*", following):
            unknown = set(following.split(",")) - NAMES[option]
            if unknown and (option.startswith("--") or "." in following):
                return f"{option}: there is no {', '.join(unknown)}"
    return None


def test_quoted_commands_exist() -> None:
    lines = sorted(set(quoted_commands()))
    assert len(lines) > 100
    assert [f"{path}: {line}: {error}" for path, line in lines if (error := error_in(line))] == []


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("ops job list", "no command job"),
        ("ops jobs lists", "no command lists"),
        ("ops jobs list --all", "no option --all"),
        ("ops doctor --only indices", "--only: there is no indices"),
        ("ops doctor --only beat.alive,queues", "--only: there is no queues"),
        ("ops jobs run archive.runs", "run: there is no archive.runs"),
        ("ops jobs run NAME", None),
        ("ops jobs history --job archive.run says why", None),
        ("ops user erase ID --dry-run", "lacks --reason"),
        ("ops user erase ID_OR_EMAIL", None),
        ("ops --help", None),
        ("db upgrade", None),
    ],
)
def test_error_in_command_line_is_found(line: str, error: str | None) -> None:
    assert error_in(line) == error
