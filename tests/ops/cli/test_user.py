"""`flask ops user`: an account from its opening to its end, and what is refused on the way."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from click.testing import Result
from flask import Flask

from ops.cli.nouns import ops
from tests.factories import Account

Run = Callable[..., Result]


@pytest.fixture
def run(flask_app: Flask) -> Run:
    """A function that runs `flask ops user ...`."""
    runner = flask_app.test_cli_runner()
    return lambda *arguments, **options: runner.invoke(ops, ["user", *arguments], **options)


def report(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return orjson.loads(result.stdout)["report"]


def test_the_first_admin_is_made_and_kept_out_and_let_in_again(run: Run) -> None:
    email = f"{uuid4().hex}@example.org"
    made = run("create", email, "--name", "Grace", "--role", "admin", "--generate", "--json")
    assert report(made)["role"] == "admin"
    assert "it is not shown again" in made.stderr
    assert report(run("disable", email, "--yes", "--json"))["status"] == "disabled"
    assert report(run("enable", email, "--json"))["status"] == "active"
    assert report(run("promote", email, "--role", "operator", "--yes", "--json"))["role"] == "operator"
    assert report(run("show", email, "--json"))["email"] == email


def test_without_a_terminal_no_password_is_asked_for(run: Run) -> None:
    refused = run("create", f"{uuid4().hex}@example.org", "--name", "Grace", input="a long password\n" * 2)
    assert (refused.exit_code, "give --generate" in refused.stderr) == (64, True)


@pytest.mark.parametrize("wrong", [["nobody", "--name", "Grace"], ["a@b", "--name", " "]])
def test_who_cannot_be_is_refused_before_a_password_is_asked_for(run: Run, wrong: list[str]) -> None:
    assert run("create", *wrong).exit_code == 64


def test_nobody_is_erased_without_a_word_why_or_a_yes(run: Run, user: Account) -> None:
    assert run("erase", user.email, "--yes").exit_code == 64
    assert run("erase", user.email, "--reason", "asked for").exit_code == 64  # there is nobody to ask
    assert report(run("erase", user.email, "--reason", "asked for", "--dry-run", "--json"))["account_id"] == str(
        user.id
    )
    assert report(run("show", user.email, "--json"))["status"] == "active"
