"""The provider is switched while everything runs: what comes before what, who follows, and what is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url

from app.config import Settings
from app.errors import Conflict, DatabaseUnavailable, InvalidInput, NotFound
from app.services.container import services
from app.services.provider_choice import ProviderChoice, ProviderChoices
from app.services.runtime_settings import RuntimeSettings
from ops import providers
from ops.actors import Actor
from tests.api.conftest import make_chat_app, upstream  # noqa: F401  # fixtures
from tests.factories import Account
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
    """AI_PROVIDER is `compatible`, answered by `upstream`; `openrouter` is `second`; `openai` has no key."""
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
            "breaker_failures": 1_000_000,
        }
    )


@pytest.fixture(autouse=True)
def _context(served: Flask, upstream: Upstream, second: Upstream) -> Iterator[None]:  # noqa: F811
    upstream.script = second.script = scripts.words(2)
    with served.app_context():
        yield
        providers.reset_provider(by=ME)


@pytest.fixture
def ask(served: Flask, user: Account) -> Ask:
    """A function that chats and returns the turn; keyword arguments are fields of the body."""

    def ask(**body: Any) -> dict[str, Any]:
        response = served.test_client().post("/api/chat", json={"message": "hello", **body}, headers=user.headers)
        assert response.status_code == 200, response.text
        return dict(response.get_json()["turn"])

    return ask


@pytest.fixture
def asked_model(upstream: Upstream, second: Upstream) -> Callable[[], tuple[str, str]]:  # noqa: F811
    """A function that says which of the two was asked last, and for which model."""

    def last() -> tuple[str, str]:
        name, seen = max(
            ((name, of.requests[-1]) for name, of in (("compatible", upstream), ("openrouter", second)) if of.requests),
            key=lambda each: each[1].at,
        )
        return name, seen.body["model"]

    return last


def use(name: str, **more: Any) -> providers.ProviderSwitched:
    return providers.use_provider(name=name, by=ME, **more)


def test_request_before_project_before_choice_before_setting(
    ask: Ask, served: Flask, user: Account, asked_model: Callable[[], tuple[str, str]]
) -> None:
    client = served.test_client()

    def project(**values: Any) -> str:
        made = client.post("/api/projects", json={"name": "x", **values}, headers=user.headers)
        return str(made.get_json()["id"])

    def answered_by(**body: Any) -> tuple[str, str]:
        turn = ask(**body)
        assert turn["provider"] == asked_model()[0]
        return asked_model()

    plain, own, models = project(), project(provider="compatible", model="projects"), project(model="projects")
    assert answered_by() == ("compatible", "settings-model")
    use("openrouter", model="chosen")
    assert answered_by() == ("openrouter", "chosen")
    assert answered_by(project_id=plain) == ("openrouter", "chosen")
    assert answered_by(project_id=own) == ("compatible", "projects")
    assert answered_by(project_id=models) == ("openrouter", "projects")
    assert answered_by(project_id=own, provider="openrouter") == ("openrouter", "chosen")
    assert answered_by(provider="compatible") == ("compatible", "settings-model")
    assert answered_by(provider="compatible", model="requests") == ("compatible", "requests")
    assert answered_by(model="requests") == ("openrouter", "requests")
    use("openrouter")
    assert answered_by() == ("openrouter", "openrouter/auto")
    use("compatible", model="other")
    assert answered_by() == ("compatible", "other")
    providers.reset_provider(by=ME)
    assert answered_by() == ("compatible", "settings-model")


def test_the_chosen_model_is_the_operators_in_the_metrics(ask: Ask) -> None:
    use("openrouter", model="chosen")
    since = Since()
    ask()
    ask(model="whatever people like")
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", model="chosen") == 1
    assert since.counted("ai_request_duration_seconds_count", provider="openrouter", model="__other__") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("nonsense", "demo, openai, openrouter, compatible"),
        ("", "demo"),
        ("\x00", "demo"),
    ],
)
def test_what_cannot_answer_is_refused_with_what_is_missing(name: str, says: str, ask: Ask) -> None:
    for dry_run in (True, False):
        with pytest.raises((NotFound, Conflict), match=says):
            use(name, dry_run=dry_run)
    with pytest.raises((NotFound, Conflict), match=says):
        providers.test_provider(name)
    assert ask()["provider"] == "compatible"


@pytest.mark.parametrize("model", ["", " ", " x", "x\n", "m" * 201, "nul\x00", "\ud800"])
def test_what_can_be_no_model_is_refused(model: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        use("openrouter", model=model)


def test_a_dry_run_says_what_would_change_and_changes_nothing(ask: Ask) -> None:
    said = use("openrouter", dry_run=True)
    assert (said.name, said.model) == ("openrouter", "openrouter/auto")
    assert (said.before, said.model_before) == ("compatible", "settings-model")
    assert ask()["provider"] == "compatible"


def test_the_list_says_who_decided(served: Flask) -> None:
    listed = providers.list_providers()
    assert (listed.in_use, listed.because, listed.since) == ("compatible", "AI_PROVIDER", None)
    lines = {line.name: line for line in listed.providers}
    assert list(lines) == ["demo", "openai", "openrouter", "compatible"]
    assert (lines["openai"].configured, lines["openai"].lacks, lines["openai"].model) == (
        False,
        "OPENAI_API_KEY, and no OPENAI_BASE_URL, which takes that key for `compatible`",
        None,
    )
    assert (lines["compatible"].in_use, lines["compatible"].model) == (True, "settings-model")
    use("openrouter", model="chosen")
    listed = providers.list_providers()
    assert (listed.in_use, listed.because) == ("openrouter", f"chosen by {ME.name}")
    assert listed.since is not None
    assert [(line.name, line.model) for line in listed.providers if line.in_use] == [("openrouter", "chosen")]


@pytest.mark.parametrize("value", [{"name": "openai"}, {"name": "gone"}, "openrouter", [], {}, {"name": ["demo"]}])
def test_a_choice_that_this_process_cannot_serve_counts_for_nothing(
    ask: Ask, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It was made where the settings are others, or by hand."""
    services().runtime.put("provider", value, None)
    assert ask()["provider"] == "compatible"
    listed = providers.list_providers()
    assert (listed.in_use, listed.since) == ("compatible", None)
    assert "is not configured here" in listed.because
    assert "not configured in this process" in caplog.text


def test_while_the_database_is_away_the_last_choice_holds(settings: Settings) -> None:
    url, now = make_url(settings.database.url or ""), [0.0]
    with Proxy((url.host or "", url.port or 5432)) as wire:
        engine = create_engine(url.set(host="127.0.0.1", port=wire.port))
        runtime = RuntimeSettings(engine, clock=lambda: now[0])
        choices = ProviderChoices(services().providers, runtime)
        wire.cut()
        assert choices.current().name == "compatible"  # nothing is known, which is no error
        with pytest.raises(DatabaseUnavailable):
            runtime.read()
        wire.mend()
        use("openrouter", model="chosen")
        now[0] += 10
        assert choices.current() == ProviderChoice("openrouter", "chosen", operators=True)
        wire.cut()
        for _ in range(3):
            now[0] += 1000
            assert choices.current() == ProviderChoice("openrouter", "chosen", operators=True)
        wire.mend()
        providers.reset_provider(by=ME)
        now[0] += 10
        assert choices.current() == ProviderChoice("compatible")
        engine.dispose()


def test_a_real_question_and_how_long_its_answer_took(asked_model: Callable[[], tuple[str, str]]) -> None:
    tested = providers.test_provider(None)
    assert (tested.name, tested.answers, tested.model) == ("compatible", True, "fake-model")
    assert tested.said == "word0 word1"
    assert tested.problem is None
    assert tested.first_piece_seconds is not None
    assert 0 < tested.first_piece_seconds <= tested.seconds
    assert asked_model() == ("compatible", "settings-model")
    providers.test_provider("openrouter")
    assert asked_model() == ("openrouter", "openrouter/auto")
    use("openrouter", model="chosen")
    providers.test_provider(None)
    assert asked_model() == ("openrouter", "chosen")
    assert providers.test_provider("demo").answers


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (scripts.refusal(401), "refused the key"),
        (scripts.refusal(404), "no such model"),
        (scripts.refusal(429), "limiting its callers"),
        (scripts.cut(after=1), "in the middle of its answer"),
        (scripts.not_http(), "not HTTP"),
        (scripts.reset(), "broke the connection"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(second: Upstream, script: Script, says: str) -> None:
    second.script = script
    tested = providers.test_provider("openrouter")
    assert not tested.answers
    assert says in (tested.problem or "")
    assert "sk-router" not in repr(tested)


def test_a_test_tells_the_circuit_nothing(ask: Ask, second: Upstream) -> None:
    since = Since()
    second.script = scripts.refusal(500)
    for _ in range(10):
        assert not providers.test_provider("openrouter").answers
    assert since.counted("ai_retries_total") == since.counted("ai_errors_total") == 0
    second.script = scripts.words(1)
    assert ask(provider="openrouter")["status"] == "completed"


def test_a_second_opinion_says_who_is_at_fault(second: Upstream) -> None:
    second.script = scripts.refusal(401)
    tested = providers.test_provider("openrouter", twice=True)
    assert tested.second_opinion is not None
    assert tested.second_opinion.startswith("OpenAI's own package fails too: HTTP 401.")
    assert "sk-router" not in repr(tested)
    second.then(scripts.refusal(500), scripts.answer("all is well"))
    assert "the fault is Parley's" in (providers.test_provider("openrouter", twice=True).second_opinion or "")
    second.script = scripts.words(1)
    assert providers.test_provider("openrouter", twice=True).second_opinion is None
    assert providers.test_provider("demo", twice=True).second_opinion is None
