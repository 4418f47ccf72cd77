"""The command line and the admin API offer the same: what one of them gets, the other gets or has a reason not to."""

import re

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from ops import runbook_index
from ops.api.jobs import SCHEDULED
from ops.cli.nouns import ops
from ops.doors import ADMIN, COMMAND_ONLY, REQUESTS
from tests.contracts.application import offline, path_of

SOME_ID = "01a204c0-6fb0-740b-a04a-5c2dde16aefe"


@pytest.fixture(scope="module")
def served() -> Flask:
    return offline()


@pytest.fixture(scope="module")
def requests(served: Flask) -> set[str]:
    """All of the admin API, as it is declared in the doors."""
    return {
        f"{method} {path_of(rule).removeprefix(ADMIN)}"
        for rule in served.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(f"{ADMIN}/")
    }


def test_every_command_has_its_request_or_a_reason() -> None:
    commands = {
        re.sub(r" [A-Z_]+\b", "", path).removeprefix("flask ops ")
        for path, _ in runbook_index.commands(ops, "flask ops")
    }
    assert set(REQUESTS) | set(COMMAND_ONLY) == commands
    assert not set(REQUESTS) & set(COMMAND_ONLY)


def test_every_request_has_its_command(requests: set[str]) -> None:
    declared = {request for each in REQUESTS.values() for request in each}
    assert requests - declared == set()


def test_what_is_declared_is_there(served: Flask) -> None:
    adapter = served.url_map.bind("localhost")
    missing = []
    for request in (request for each in REQUESTS.values() for request in each):
        method, path = request.split()
        try:
            adapter.match(ADMIN + re.sub(r"\{\w+\}", SOME_ID, path), method)
        except HTTPException:
            missing.append(request)
        if named := re.fullmatch(r"/jobs/([a-z_.]+)/runs", path):
            assert named[1] in SCHEDULED, request
    assert missing == []
