"""AI providers for operators: list, runtime choice of the default provider, and test requests."""

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import get_args

from app.bounds import MODEL_LIMIT
from app.config.values import ProviderName
from app.container import current_settings, provider_registry, provider_services
from app.errors import Conflict, InvalidInput, NotFound, ProviderError
from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, TextDelta
from app.providers.configured import missing_setting
from app.services.provider_choice import KEY, ProviderChoice
from ops.runs.actors import Actor

NAMES: tuple[ProviderName, ...] = get_args(ProviderName)
TEST_SECONDS = 30.0  # for the whole answer, including the connection
_QUESTION = "Answer with the one word: yes"
_TEST_TOKENS = 64  # enough for a reasoning model, and cheap


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSummary:
    """A provider. `model` is its default model; `missing_setting` names what it needs to be configured."""

    name: str
    in_use: bool
    configured: bool
    model: str | None = None
    missing_setting: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The providers. `in_use` is the default for requests and projects without a provider; `reason` says who set it."""

    in_use: str
    reason: str
    since: datetime | None
    fallback: tuple[str, ...]
    providers: list[ProviderSummary]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSwitched:
    """The new default provider and its model. Every worker uses it within five seconds."""

    name: str
    model: str
    previous: str
    previous_model: str
    dry_run: bool = False


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


def list_providers() -> Providers:
    """Return all providers with this process's settings, and the current choice. Raises `DatabaseUnavailable`."""
    container, settings = provider_services(), current_settings().provider
    choice = container.runtime.read().get(KEY)
    current = container.choices.resolve(choice)
    reason, since = "AI_PROVIDER" if settings.name else "the first with a key or URL, else the demo", None
    if choice is not None and current.by_operator:
        reason, since = f"chosen by {choice.value.get('by') or 'an operator'}", choice.at
    elif choice is not None:
        chosen = choice.value.get("name") if isinstance(choice.value, dict) else choice.value
        reason = f"{reason}: {chosen}, chosen by an operator, is not configured here"
    summaries = [
        ProviderSummary(
            name=name,
            in_use=name == current.name,
            configured=name in container.configured.names,
            model=_default_model(name, current) if name in container.configured.names else None,
            missing_setting=missing_setting(settings, name),
        )
        for name in NAMES
    ]
    return Providers(in_use=current.name, reason=reason, since=since, fallback=settings.fallback, providers=summaries)


def use_provider(*, name: str, by: Actor, model: str | None = None, dry_run: bool = False) -> ProviderSwitched:
    """Make `name` the default provider, with `model` or its own default model.

    Takes effect without a restart in every process that serves this database and has the provider configured. Raises
    `NotFound` for an unknown provider, `Conflict` with the missing setting, `InvalidInput` for an invalid model name,
    and `DatabaseUnavailable`.
    """
    _check(name, model)
    return _switch(ProviderChoice(name, model, by_operator=True), by, dry_run=dry_run)


def reset_provider(*, by: Actor, dry_run: bool = False) -> ProviderSwitched:
    """Delete the choice, so that AI_PROVIDER applies again. Raises `DatabaseUnavailable`."""
    return _switch(ProviderChoice(provider_services().configured.default.name), by, dry_run=dry_run)


def test_provider(name: str | None, *, twice: bool = False) -> ProviderTested:  # noqa: PT028  # of a provider
    """Send a short question to a provider, by default the one in use. This can cost a fraction of a cent.

    The settings' deadlines and a total of `TEST_SECONDS` apply. No retries, no fallback, and the circuit breaker is
    neither checked nor updated. With `twice`, a failure is repeated with OpenAI's own package. Raises `NotFound` and
    `Conflict` as `use_provider` does.
    """
    container = provider_services()
    current = container.choices.current()
    name = current.name if name is None else name
    _check(name, None)
    provider, model = provider_registry().get(name), _default_model(name, current)
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


def _switch(choice: ProviderChoice, by: Actor, *, dry_run: bool) -> ProviderSwitched:
    container = provider_services()
    previous = container.choices.resolve(container.runtime.read().get(KEY))
    if not dry_run and choice.by_operator:
        container.runtime.put(KEY, {"name": choice.name, "model": choice.model, "by": by.name}, by.user_id)
    elif not dry_run:
        container.runtime.remove(KEY)
    return ProviderSwitched(
        name=choice.name,
        model=_default_model(choice.name, choice),
        previous=previous.name,
        previous_model=_default_model(previous.name, previous),
        dry_run=dry_run,
    )


def _check(name: str, model: str | None) -> None:
    if name not in NAMES:
        raise NotFound(f"There is no provider {name!r}. The providers are {', '.join(NAMES)}.")
    if setting := missing_setting(current_settings().provider, name):
        raise Conflict(
            f"{name} is not configured: set {setting} for every web server and restart them, then choose it."
        )
    if model is not None and not (0 < len(model.strip()) == len(model) <= MODEL_LIMIT and model.isprintable()):
        raise InvalidInput(f"A model's name has 1 to {MODEL_LIMIT} printable characters, without spaces around it.")


def _default_model(name: str, current: ProviderChoice) -> str:
    """Return the default model of a configured provider: the chosen one if it is in use, else its own."""
    chosen = current.model if name == current.name else None
    return chosen or provider_services().configured.get(name).default_model
