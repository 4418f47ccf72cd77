"""`flask ops user`: creation, changes, erasure and refusals."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from click.testing import Result
from flask import Flask

from ops.cli.entry_points import ops
from tests.factories import LoggedInUser

Run = Callable[..., Result]


@pytest.fixture
def run(flask_app: Flask) -> Run:
    """Return a function that runs `flask ops user ...`."""
    runner = flask_app.test_cli_runner()
    return lambda *arguments, **options: runner.invoke(ops, ["user", *arguments], **options)


def report(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return orjson.loads(result.stdout)["report"]


def test_user_is_created_disabled_enabled_and_promoted(run: Run) -> None:
    email = f"{uuid4().hex}@example.org"
    made = run("create", email, "--name", "Grace", "--role", "admin", "--generate", "--json")
    assert report(made)["role"] == "admin"
    assert "It is not shown again" in made.stderr
    assert report(run("disable", email, "--yes", "--json"))["status"] == "disabled"
    assert report(run("enable", email, "--yes", "--json"))["status"] == "active"
    assert report(run("promote", email, "--role", "operator", "--yes", "--json"))["role"] == "operator"
    assert report(run("show", email, "--json"))["email"] == email


def test_create_without_terminal_is_usage_error(run: Run) -> None:
    refused = run("create", f"{uuid4().hex}@example.org", "--name", "Grace", input="a long password\n" * 2)
    assert (refused.exit_code, "pass --generate" in refused.stderr) == (64, True)


@pytest.mark.parametrize("wrong", [["not-an-address", "--name", "Grace"], ["a@b", "--name", " "]])
def test_invalid_user_is_refused_before_password_prompt(run: Run, wrong: list[str]) -> None:
    assert run("create", *wrong).exit_code == 64


def test_erasure_requires_reason_and_confirmation(run: Run, user: LoggedInUser) -> None:
    assert run("erase", user.email, "--yes").exit_code == 64
    assert run("erase", user.email, "--reason", "asked for it").exit_code == 64  # no terminal for the confirmation
    assert report(run("erase", user.email, "--reason", "asked for it", "--dry-run", "--json"))["user_id"] == str(
        user.id
    )
    assert report(run("show", user.email, "--json"))["status"] == "active"


def test_reset_token_sets_a_password_and_is_audited(run: Run, flask_app: Flask, user: LoggedInUser) -> None:
    issued = report(run("reset-password", user.email.upper(), "--minutes", "5", "--json"))
    assert issued["user_id"] == str(user.id)
    body = {"token": issued["token"], "new_password": "another horse 1"}
    assert flask_app.test_client().post("/api/auth/password/reset", json=body).status_code == 204
    shown = flask_app.test_cli_runner().invoke(ops, ["audit", "--on", str(user.id), "--json"])
    assert [entry["action"] for entry in report(shown)] == ["user.reset_password", "user.issue_password_reset"]
    assert issued["token"] not in shown.stdout


@pytest.mark.parametrize("arguments", [["--minutes", "4"], ["--minutes", "1441"], ["--minutes", "x"]])
def test_invalid_validity_is_usage_error(run: Run, user: LoggedInUser, arguments: list[str]) -> None:
    assert run("reset-password", user.email, *arguments).exit_code == 64


def test_disabled_or_unknown_user_gets_no_token(run: Run, user: LoggedInUser) -> None:
    assert report(run("disable", user.email, "--yes", "--json"))["status"] == "disabled"
    for name in (user.email, f"{uuid4().hex}@example.org"):
        refused = run("reset-password", name)
        assert refused.exit_code != 0, refused.stdout
        assert "prr_" not in refused.stdout
