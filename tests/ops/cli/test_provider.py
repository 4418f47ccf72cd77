"""`flask ops provider`: output, confirmation, refusals and exit codes."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from click.testing import Result
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from ops.cli.entry_points import ops
from ops.providers.choice import reset_provider
from ops.runs.actors import Actor
from tests.api.conftest import make_chat_app, upstream  # noqa: F401  # fixtures
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def served(make_chat_app: Callable[..., Flask], upstream: Upstream) -> Flask:  # noqa: F811
    """Return the application without AI_PROVIDER, which makes it `compatible`, and with a key for `openrouter`."""
    router = {"openrouter_api_key": SecretStr("sk-router"), "openrouter_base_url": upstream.base_url}
    return make_chat_app(provider={"openai_base_url": upstream.base_url, **router})


@pytest.fixture
def run(served: Flask) -> Iterator[Run]:
    """Return a function that runs `flask ops provider ...`."""
    runner = served.test_cli_runner()
    yield lambda *arguments, **options: runner.invoke(ops, ["provider", *arguments], **options)
    with served.app_context():
        reset_provider(by=Actor(kind="command", name="test"))


def report(result: Result) -> dict[str, Any]:
    document = orjson.loads(result.stdout)
    assert document["schema"] == "parley.ops/2"
    return dict(document["report"])


def test_use_list_and_reset_are_audited(run: Run, engine: Engine) -> None:
    used = run("use", "openrouter", "--model", "some-model", "--yes", "--json")
    assert used.exit_code == 0
    assert "use openrouter (some-model) instead of compatible (default) on all servers" in used.stderr
    assert report(used) == {
        "name": "openrouter",
        "model": "some-model",
        "previous": "compatible",
        "previous_model": "default",
        "dry_run": False,
    }
    assert report(run("list", "--json"))["in_use"] == "openrouter"
    assert "some-model" in run("list").stdout
    assert report(run("reset", "--yes", "--json"))["name"] == "compatible"
    assert report(run("list", "--json"))["in_use"] == "compatible"
    with engine.connect() as connection:
        acts = connection.execute(
            text("SELECT action, target, result, details FROM audit_events WHERE action LIKE 'provider.%' ORDER BY id")
        ).all()
    assert [(act.action, act.target, act.result) for act in acts[-2:]] == [
        ("provider.use", "openrouter", "done"),
        ("provider.reset", "compatible", "done"),
    ]
    assert acts[-2].details == {"model": "some-model", "previous": "compatible"}


def test_declined_confirmation_changes_nothing(run: Run) -> None:
    refused = run("use", "openrouter", input="n\n")
    assert refused.exit_code == 64
    assert run("use", "openrouter", "--dry-run", "--json").exit_code == 0
    assert report(run("list", "--json"))["in_use"] == "compatible"


@pytest.mark.parametrize(
    ("name", "says", "code"),
    [
        ("nonsense", "The providers are demo, openai, openrouter, compatible", 64),
        ("openai", "without OPENAI_BASE_URL", 2),
    ],
)
def test_unusable_provider_is_refused_before_confirmation(run: Run, name: str, says: str, code: int) -> None:
    for command in (("use", name, "--yes"), ("test", name)):
        refused = run(*command)
        assert (refused.exit_code, refused.stdout) == (code, "")
        assert says in refused.stderr.replace("\n", " ")


def test_exit_code_of_provider_test_follows_result(run: Run, upstream: Upstream) -> None:  # noqa: F811
    upstream.script = scripts.words(1)
    tested = run("test", "--json")
    assert tested.exit_code == 0
    assert report(tested)["ok"] is True
    upstream.script = scripts.api_error(401)
    tested = run("test", "compatible", "--json")
    assert tested.exit_code == 2
    assert "rejected the key" in report(tested)["problem"]
