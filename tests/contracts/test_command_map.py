"""Commands and requests of the admin API: each command has its request, or a reason for not having one."""

import re
from collections.abc import Iterator

import click
import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from ops.api.jobs import SCHEDULED
from ops.cli.entry_points import LazyGroup, ops
from ops.command_map import ADMIN, COMMAND_ONLY, REQUESTS
from ops.generate.tables import commands
from tests.contracts.application import offline, path_of

SOME_ID = "01a204c0-6fb0-740b-a04a-5c2dde16aefe"


@pytest.fixture(scope="module")
def served() -> Flask:
    return offline()


@pytest.fixture(scope="module")
def requests(served: Flask) -> set[str]:
    """Return method and path of each request of the admin API."""
    return {
        f"{method} {path_of(rule).removeprefix(ADMIN)}"
        for rule in served.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(f"{ADMIN}/")
    }


def test_every_command_has_a_request_or_a_reason() -> None:
    names = {re.sub(r" [A-Z_]+\b", "", path).removeprefix("flask ops ") for path, _ in commands(ops, "flask ops")}
    assert set(REQUESTS) | set(COMMAND_ONLY) == names
    assert not set(REQUESTS) & set(COMMAND_ONLY)


def test_every_request_has_a_command(requests: set[str]) -> None:
    declared = {request for command in REQUESTS.values() for request in command}
    assert requests - declared == set()


def test_declared_requests_exist(served: Flask) -> None:
    adapter = served.url_map.bind("localhost")
    missing = []
    for request in (request for command in REQUESTS.values() for request in command):
        method, path = request.split()
        try:
            adapter.match(ADMIN + re.sub(r"\{\w+\}", SOME_ID, path), method)
        except HTTPException:
            missing.append(request)
        if match := re.fullmatch(r"/jobs/([a-z_.]+)/runs", path):
            assert match[1] in SCHEDULED, request
    assert missing == []


def test_summaries_in_lists_are_those_of_commands() -> None:
    """`--help` of a group lists its commands without importing them."""
    differing = {
        f"{group.name} {name}": summary
        for group in lazy_groups(ops)
        for name, (_, summary) in group.subcommands.items()
        if _command(group, name).get_short_help_str(200) != summary
    }
    assert differing == {}


def lazy_groups(group: LazyGroup) -> Iterator[LazyGroup]:
    """Yield `group` and the groups below it that import their subcommands when they are named."""
    yield group
    for name in group.subcommands:
        if isinstance(inner := _command(group, name), LazyGroup):
            yield from lazy_groups(inner)


def _command(group: LazyGroup, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command
