"""A test request to an AI provider."""

from dataclasses import dataclass
from time import monotonic

from app.container import provider_registry, provider_services
from app.errors import ProviderError
from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, TextDelta
from app.services.provider_choice import default_model
from ops.providers.choice import check_provider

TEST_SECONDS = 30.0  # for the whole answer, including the connection
_QUESTION = "Answer with the one word: yes"
_TEST_TOKENS = 64  # enough for a reasoning model, and cheap


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTested:
    """The result of a real request. Times are in seconds since its start; `problem` is an error in one sentence.

    `cross_check` is the result of a second request with OpenAI's own package, if one was requested.
    """

    name: str
    ok: bool
    model: str
    first_chunk_seconds: float | None = None
    seconds: float
    answer: str | None = None
    tokens: int | None = None
    problem: str | None = None
    cross_check: str | None = None


def send_test_request(name: str | None, *, twice: bool = False) -> ProviderTested:
    """Send a short question to a provider, by default the one in use. This can cost a fraction of a cent.

    The settings' deadlines and a total of `TEST_SECONDS` apply. No retries, no fallback, and the circuit breaker is
    neither checked nor updated. With `twice`, a failure is repeated with OpenAI's own package. Raises `NotFound` and
    `Conflict` as `use_provider` does.
    """
    container = provider_services()
    current = container.choices.current()
    name = current.name if name is None else name
    check_provider(name)
    provider, model = provider_registry().get(name), default_model(container.configured, name, current)
    started = monotonic()
    request = ChatRequest(
        [ChatMessage("user", _QUESTION)],
        model,
        options={"max_output_tokens": _TEST_TOKENS},
        until=started + TEST_SECONDS,
    )
    first, text, completed = None, "", None
    try:
        with provider.stream(request) as events:
            for event in events:
                first = first or monotonic() - started
                if isinstance(event, TextDelta):
                    text += event.text
                elif isinstance(event, Completed):
                    completed = event
    except ProviderError as error:
        return ProviderTested(
            name=name,
            ok=False,
            model=model,
            first_chunk_seconds=first,
            seconds=monotonic() - started,
            problem=error.full_detail,
            cross_check=_cross_check(provider, model) if twice else None,
        )
    assert completed is not None  # noqa: S101  # a stream without it raises
    return ProviderTested(
        name=name,
        ok=True,
        model=completed.model,
        first_chunk_seconds=first,
        seconds=monotonic() - started,
        answer=" ".join(text.split())[:100],
        tokens=sum(filter(None, (completed.usage.input_tokens, completed.usage.output_tokens))) or None,
    )


def _cross_check(provider: Provider, model: str) -> str | None:
    try:
        answer = provider.cross_check(model, _QUESTION, TEST_SECONDS)
    except ProviderError as error:
        return f"OpenAI's own package fails too: {error.detail}. The cause is the provider, its key or the network."
    return None if answer is None else "OpenAI's own package succeeds, so the cause is Parley: please report it."
