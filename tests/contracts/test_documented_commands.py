"""Each command of `flask` that a page, a finding or an error names can be typed, with those options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask_migrate.cli import db as migrate_group

from ops.catalogue import CHECKS, JOBS
from ops.cli.chat import chat
from ops.cli.nouns import ops as ops_group
from tests.contracts.test_docs import PAGES, ROOT

GROUPS: dict[str, click.Command] = {"ops": ops_group, "db": migrate_group, "chat": chat}
A_COMMAND = re.compile(r"\bflask (ops|db|chat)\b([^\n`]*)")
# Here a line is no longer the command: another one begins, or what stands beside it, or the sentence goes on.
END = re.compile(r"  |[;|&>#()]|[,.:](?= |$)")
OPTIONS_OF_ALL = {"--help"}
WORDS = {  # of the catalogue, where a name is written out and not left to be filled in, such as NAME
    "--only": {check.id for check in CHECKS} | {check.group for check in CHECKS},
    "--job": {job.name for job in JOBS},
    "run": {job.name for job in JOBS},
}


def sources() -> Iterator[tuple[str, str]]:
    """Where, and a text in which commands may be named: pages, and the strings of the code, docstrings among them."""
    for page in PAGES:
        yield page.relative_to(ROOT).as_posix(), page.read_text()
    for folder in ("app", "ops", "tasks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in strings(path):
                yield path.relative_to(ROOT).as_posix(), text


def strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named() -> Iterator[tuple[str, str]]:
    for where, text in sources():
        for found in A_COMMAND.finditer(text):
            yield where, f"{found[1]}{END.split(found[2], maxsplit=1)[0]}"


def wrong_with(line: str) -> str | None:
    """What cannot be typed of `ops jobs run archive.run and some words`; None if all of it can."""
    noun, *words = line.split()
    command = GROUPS[noun]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.split("=")[0] for word in words if re.match("--[a-z]", word)]
    needed = {each.opts[0] for each in command.params if isinstance(each, click.Option) and each.required}
    if given and not OPTIONS_OF_ALL.intersection(given) and (lacking := needed.difference(given)):
        return f"lacks {', '.join(sorted(lacking))}"
    for word, following in zip([command.name, *words], [*words, ""], strict=True):
        option = str(word).split("=")[0]
        if re.match("--[a-z]", option) and option not in known | OPTIONS_OF_ALL:
            return f"no option {option}"
        if option in WORDS and re.fullmatch(r"[a-z_]+(\.[a-z_]+)?(,[a-z_.]+)*", following):
            unknown = set(following.split(",")) - WORDS[option]
            if unknown and (option.startswith("--") or "." in following):
                return f"{option}: there is no {', '.join(unknown)}"
    return None


def test_each_command_that_is_named_can_be_typed() -> None:
    lines = sorted(set(named()))
    assert len(lines) > 100
    assert [f"{where}: {line}: {wrong}" for where, line in lines if (wrong := wrong_with(line))] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
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
def test_what_cannot_be_typed_is_found(line: str, wrong: str | None) -> None:
    assert wrong_with(line) == wrong
