"""The runtime choice of the provider: precedence, refusals, and test requests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url

from app.config import Settings
from app.container import services
from app.errors import Conflict, DatabaseUnavailable, InvalidInput, NotFound
from app.services.provider_choice import ProviderChoice, ProviderChoices
from app.services.runtime_settings import RuntimeSettings
from ops.providers.choice import ProviderSwitched, reset_provider, use_provider
from ops.providers.listing import list_providers
from ops.providers.testing import send_test_request
from ops.runs.actors import Actor
from tests.api.conftest import make_chat_app, upstream  # noqa: F401  # fixtures
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Script
from tests.fakes.upstream import Upstream
from tests.faults.proxy import Proxy
from tests.metrics.scrape import Since

ME = Actor(kind="command", name="ada@analytical-engine")
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def second() -> Iterator[Upstream]:
    with Upstream(scripts.words()) as running:
        yield running


@pytest.fixture(scope="module")
def served(make_chat_app: Callable[..., Flask], upstream: Upstream, second: Upstream) -> Flask:  # noqa: F811
    """Return an application with the providers `compatible` (`upstream`, the default) and `openrouter` (`second`)."""
    return make_chat_app(
        provider={
            "name": "compatible",
            "model": "settings-model",
            "openai_base_url": upstream.base_url,
            "openrouter_api_key": SecretStr("sk-router"),
            "openrouter_base_url": second.base_url,
            "connect_timeout": 2,
            "first_token_timeout": 10,
            "idle_timeout": 10,
            "total_timeout": 30,
            "retries": 0,
            "circuit_failures": 1_000_000,
        }
    )


@pytest.fixture(autouse=True)
def _context(served: Flask, upstream: Upstream, second: Upstream) -> Iterator[None]:  # noqa: F811
    upstream.script = second.script = scripts.words(2)
    with served.app_context():
        yield
        reset_provider(by=ME)


@pytest.fixture
def ask(served: Flask, user: LoggedInUser) -> Ask:
    """Return a function that chats and returns the turn; keyword arguments are fields of the body."""

    def ask(**body: Any) -> dict[str, Any]:
        response = served.test_client().post("/api/chat", json={"message": "hello", **body}, headers=user.headers)
        assert response.status_code == 200, response.text
        return dict(response.get_json()["turn"])

    return ask


@pytest.fixture
def last_request(upstream: Upstream, second: Upstream) -> Callable[[], tuple[str, str]]:  # noqa: F811
    """Return a function that returns the provider of the last request, and its model."""

    def last() -> tuple[str, str]:
        name, seen = max(
            ((name, of.requests[-1]) for name, of in (("compatible", upstream), ("openrouter", second)) if of.requests),
            key=lambda each: each[1].at,
        )
        return name, seen.body["model"]

    return last


def use(name: str, **more: Any) -> ProviderSwitched:
    return use_provider(name=name, by=ME, **more)


def test_request_before_project_before_choice_before_setting(
    ask: Ask, served: Flask, user: LoggedInUser, last_request: Callable[[], tuple[str, str]]
) -> None:
    client = served.test_client()

    def project(**values: Any) -> str:
        made = client.post("/api/projects", json={"name": "x", **values}, headers=user.headers)
        return str(made.get_json()["id"])

    def answered_by(**body: Any) -> tuple[str, str]:
        turn = ask(**body)
        assert turn["provider"] == last_request()[0]
        return last_request()

    without_provider, with_provider, with_model = (
        project(),
        project(provider="compatible", model="projects"),
        project(model="projects"),
    )
    assert answered_by() == ("compatible", "settings-model")
    use("openrouter", model="chosen")
    assert answered_by() == ("openrouter", "chosen")
    assert answered_by(project_id=without_provider) == ("openrouter", "chosen")
    assert answered_by(project_id=with_provider) == ("compatible", "projects")
    assert answered_by(project_id=with_model) == ("openrouter", "projects")
    assert answered_by(project_id=with_provider, provider="openrouter") == ("openrouter", "chosen")
    assert answered_by(provider="compatible") == ("compatible", "settings-model")
    assert answered_by(provider="compatible", model="requests") == ("compatible", "requests")
    assert answered_by(model="requests") == ("openrouter", "requests")
    use("openrouter")
    assert answered_by() == ("openrouter", "openrouter/auto")
    use("compatible", model="other")
    assert answered_by() == ("compatible", "other")
    reset_provider(by=ME)
    assert answered_by() == ("compatible", "settings-model")


def test_chosen_model_is_named_in_the_metrics(ask: Ask) -> None:
    use("openrouter", model="chosen")
    since = Since()
    ask()
    ask(model="any other model")
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", model="chosen") == 1
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", model="__other__") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("nonsense", "demo, openai, openrouter, compatible"),
        ("", "demo"),
        ("\x00", "demo"),
    ],
)
def test_unconfigured_or_unknown_provider_is_refused(name: str, message: str, ask: Ask) -> None:
    for dry_run in (True, False):
        with pytest.raises((NotFound, Conflict), match=message):
            use(name, dry_run=dry_run)
    with pytest.raises((NotFound, Conflict), match=message):
        send_test_request(name)
    assert ask()["provider"] == "compatible"


@pytest.mark.parametrize("model", ["", " ", " x", "x\n", "m" * 201, "nul\x00", "\ud800"])
def test_invalid_model_name_is_refused(model: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        use("openrouter", model=model)


def test_dry_run_reports_the_change_and_changes_nothing(ask: Ask) -> None:
    plan = use("openrouter", dry_run=True)
    assert (plan.name, plan.model) == ("openrouter", "openrouter/auto")
    assert (plan.previous, plan.previous_model) == ("compatible", "settings-model")
    assert ask()["provider"] == "compatible"


def test_list_gives_the_reason_of_the_default(served: Flask) -> None:
    listed = list_providers()
    assert (listed.in_use, listed.reason, listed.since) == ("compatible", "AI_PROVIDER", None)
    lines = {line.name: line for line in listed.providers}
    assert list(lines) == ["demo", "openai", "openrouter", "compatible"]
    assert (lines["openai"].configured, lines["openai"].missing_setting, lines["openai"].model) == (
        False,
        "OPENAI_API_KEY without OPENAI_BASE_URL (which assigns the key to `compatible`)",
        None,
    )
    assert (lines["compatible"].in_use, lines["compatible"].model) == (True, "settings-model")
    use("openrouter", model="chosen")
    listed = list_providers()
    assert (listed.in_use, listed.reason) == ("openrouter", f"chosen by {ME.name}")
    assert listed.since is not None
    assert [(line.name, line.model) for line in listed.providers if line.in_use] == [("openrouter", "chosen")]


@pytest.mark.parametrize("value", [{"name": "openai"}, {"name": "gone"}, "openrouter", [], {}, {"name": ["demo"]}])
def test_choice_of_an_unconfigured_provider_is_ignored(ask: Ask, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It was set by a process with other settings, or by SQL."""
    services().runtime.put("provider", value, None)
    assert ask()["provider"] == "compatible"
    listed = list_providers()
    assert (listed.in_use, listed.since) == ("compatible", None)
    assert "is not configured here" in listed.reason
    assert "not configured in this process" in caplog.text


def test_last_choice_applies_while_the_database_is_unavailable(settings: Settings) -> None:
    url, now = make_url(settings.database.url or ""), [0.0]
    with Proxy((url.host or "", url.port or 5432)) as wire:
        engine = create_engine(url.set(host="127.0.0.1", port=wire.port))
        runtime = RuntimeSettings(engine, clock=lambda: now[0])
        choices = ProviderChoices(services().providers.configured, runtime)
        wire.cut()
        assert choices.current().name == "compatible"  # an unknown choice is not an error
        with pytest.raises(DatabaseUnavailable):
            runtime.read()
        wire.repair()
        use("openrouter", model="chosen")
        now[0] += 10
        assert choices.current() == ProviderChoice("openrouter", "chosen", by_operator=True)
        wire.cut()
        for _ in range(3):
            now[0] += 1000
            assert choices.current() == ProviderChoice("openrouter", "chosen", by_operator=True)
        wire.repair()
        reset_provider(by=ME)
        now[0] += 10
        assert choices.current() == ProviderChoice("compatible")
        engine.dispose()


def test_test_provider_returns_answer_and_times(last_request: Callable[[], tuple[str, str]]) -> None:
    tested = send_test_request(None)
    assert (tested.name, tested.ok, tested.model) == ("compatible", True, "fake-model")
    assert tested.answer == "word0 word1"
    assert tested.problem is None
    assert tested.first_chunk_seconds is not None
    assert 0 < tested.first_chunk_seconds <= tested.seconds
    assert last_request() == ("compatible", "settings-model")
    send_test_request("openrouter")
    assert last_request() == ("openrouter", "openrouter/auto")
    use("openrouter", model="chosen")
    send_test_request(None)
    assert last_request() == ("openrouter", "chosen")
    assert send_test_request("demo").ok


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (scripts.api_error(401), "rejected the key"),
        (scripts.api_error(404), "does not know the model"),
        (scripts.api_error(429), "limiting its callers"),
        (scripts.cut(after=1), "in the middle of its answer"),
        (scripts.not_http(), "not HTTP"),
        (scripts.reset(), "broke the connection"),
    ],
)
def test_test_provider_returns_the_problem(second: Upstream, script: Script, message: str) -> None:
    second.script = script
    tested = send_test_request("openrouter")
    assert not tested.ok
    assert message in (tested.problem or "")
    assert "sk-router" not in repr(tested)


def test_test_provider_does_not_touch_the_circuit_breaker(ask: Ask, second: Upstream) -> None:
    since = Since()
    second.script = scripts.api_error(500)
    for _ in range(10):
        assert not send_test_request("openrouter").ok
    assert since.counted("ai_retries_total") == since.counted("ai_errors_total") == 0
    second.script = scripts.words(1)
    assert ask(provider="openrouter")["status"] == "completed"


def test_cross_check_names_the_cause(second: Upstream) -> None:
    second.script = scripts.api_error(401)
    tested = send_test_request("openrouter", twice=True)
    assert tested.cross_check is not None
    assert tested.cross_check.startswith("OpenAI's own package fails too: HTTP 401.")
    assert "sk-router" not in repr(tested)
    second.queue_scripts(scripts.api_error(500), scripts.answer("all is well"))
    assert "the cause is Parley" in (send_test_request("openrouter", twice=True).cross_check or "")
    second.script = scripts.words(1)
    assert send_test_request("openrouter", twice=True).cross_check is None
    assert send_test_request("demo", twice=True).cross_check is None
