"""The AI providers: which there are, which one answers by default, and whether one answers at all."""

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import get_args

from app.config_values import ProviderName
from app.errors import Conflict, InvalidInput, NotFound, ProviderError
from app.models.turn import MODEL_LIMIT
from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, TextDelta
from app.providers.registry import lacking
from app.services.container import services
from app.services.provider_choice import KEY, ProviderChoice
from ops.actors import Actor

NAMES: tuple[ProviderName, ...] = get_args(ProviderName)
TEST_SECONDS = 30.0  # for a whole answer, connecting included
_QUESTION = "Answer with the one word: yes"
_TEST_TOKENS = 64  # of the answer: enough for a model that thinks before it speaks, and cheap


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLine:
    """One provider. `model` is the one that answers where nobody names another; `lacks` what its settings need."""

    name: str
    in_use: bool
    configured: bool
    model: str | None = None
    lacks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """`in_use` answers where neither a request nor its project names another: `because` says who decided that."""

    in_use: str
    because: str
    since: datetime | None
    fallback: tuple[str, ...]
    providers: list[ProviderLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSwitched:
    """From now on `name` answers with `model`, where nobody names another: within five seconds on every worker."""

    name: str
    model: str
    before: str
    model_before: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTested:
    """A real question and its answer. Times in seconds from the asking; `problem` is what went wrong, in a sentence.

    `second_opinion` is what came of asking once more through OpenAI's own package, where that was wanted.
    """

    name: str
    answers: bool
    model: str
    first_piece_seconds: float | None = None
    seconds: float
    said: str | None = None
    tokens: int | None = None
    problem: str | None = None
    second_opinion: str | None = None


def list_providers() -> Providers:
    """Every provider that there is, as this process is configured, and the operator's choice as it stands now.

    Raises `DatabaseUnavailable`.
    """
    held, settings = services(), services().settings.provider
    choice = held.runtime.read().get(KEY)
    current = held.choices.of(choice)
    because, since = "AI_PROVIDER" if settings.name else "what has a key or URL, else the demo", None
    if choice is not None and current.operators:
        because, since = f"chosen by {choice.value.get('by') or 'an operator'}", choice.at
    elif choice is not None:
        chosen = choice.value.get("name") if isinstance(choice.value, dict) else choice.value
        because = f"{because}: what an operator chose, {chosen}, is not configured here"
    lines = [
        ProviderLine(
            name=name,
            in_use=name == current.name,
            configured=name in held.providers.names,
            model=_model(name, current) if name in held.providers.names else None,
            lacks=lacking(settings, name),
        )
        for name in NAMES
    ]
    return Providers(in_use=current.name, because=because, since=since, fallback=settings.fallback, providers=lines)


def use_provider(*, name: str, by: Actor, model: str | None = None, dry_run: bool = False) -> ProviderSwitched:
    """Let `name` answer from now on wherever neither request nor project names another; `model` None is its own.

    Holds for every process that serves this database and has what the provider needs; no restart. Raises
    `NotFound` for an unknown provider, `Conflict` for one that lacks something, saying what, `InvalidInput` for what
    can be no model, and `DatabaseUnavailable`.
    """
    _check(name, model)
    return _switch(ProviderChoice(name, model, operators=True), by, dry_run=dry_run)


def reset_provider(*, by: Actor, dry_run: bool = False) -> ProviderSwitched:
    """Take the choice back: AI_PROVIDER holds again. Raises `DatabaseUnavailable`."""
    return _switch(ProviderChoice(services().providers.default.name), by, dry_run=dry_run)


def test_provider(name: str | None, *, twice: bool = False) -> ProviderTested:  # noqa: PT028  # of a provider
    """Put a short question to a provider, the one in use for None: a real one, which may cost a fraction of a cent.

    Bounded by the deadlines of the settings, and by `TEST_SECONDS` altogether. No retries, no fallback, and neither
    asks nor tells the circuit. With `twice` a failure is asked about once more, by another client. Raises `NotFound`
    and `Conflict` as `use_provider` does.
    """
    held = services()
    current = held.choices.current()
    name = current.name if name is None else name
    _check(name, None)
    provider, model = held.providers.get(name), _model(name, current)
    began = monotonic()
    request = ChatRequest(
        [ChatMessage("user", _QUESTION)], model, options={"max_output_tokens": _TEST_TOKENS}, until=began + TEST_SECONDS
    )
    first, said, end = None, "", None
    try:
        with provider.stream(request) as events:
            for event in events:
                first = first or monotonic() - began
                if isinstance(event, TextDelta):
                    said += event.text
                elif isinstance(event, Completed):
                    end = event
    except ProviderError as error:
        return ProviderTested(
            name=name,
            answers=False,
            model=model,
            first_piece_seconds=first,
            seconds=monotonic() - began,
            problem=error.detail,
            second_opinion=_second_opinion(provider, model) if twice else None,
        )
    assert end is not None  # noqa: S101  # a stream without it raises
    return ProviderTested(
        name=name,
        answers=True,
        model=end.model,
        first_piece_seconds=first,
        seconds=monotonic() - began,
        said=" ".join(said.split())[:100],
        tokens=sum(filter(None, (end.usage.input_tokens, end.usage.output_tokens))) or None,
    )


def _second_opinion(provider: Provider, model: str) -> str | None:
    try:
        said = provider.second_opinion(model, _QUESTION, TEST_SECONDS)
    except ProviderError as error:
        return f"OpenAI's own package fails too: {error.detail}. The provider, its key or the way to it is at fault."
    return None if said is None else "OpenAI's own package is answered, so the fault is Parley's: please report it."


def _switch(to: ProviderChoice, by: Actor, *, dry_run: bool) -> ProviderSwitched:
    held = services()
    before = held.choices.of(held.runtime.read().get(KEY))
    if not dry_run and to.operators:
        held.runtime.put(KEY, {"name": to.name, "model": to.model, "by": by.name}, by.user_id)
    elif not dry_run:
        held.runtime.remove(KEY)
    return ProviderSwitched(
        name=to.name,
        model=_model(to.name, to),
        before=before.name,
        model_before=_model(before.name, before),
        dry_run=dry_run,
    )


def _check(name: str, model: str | None) -> None:
    if name not in NAMES:
        raise NotFound(f"There is no provider {name!r}; there are {', '.join(NAMES)}.")
    if need := lacking(services().settings.provider, name):
        raise Conflict(
            f"{name} is not configured: set {need} for every web server and restart them, then it can be chosen."
        )
    if model is not None and not (0 < len(model.strip()) == len(model) <= MODEL_LIMIT and model.isprintable()):
        raise InvalidInput(f"A model's name has 1 to {MODEL_LIMIT} printable characters, and no space around them.")


def _model(name: str, current: ProviderChoice) -> str:
    """The one that answers for `name`, which is configured, where nobody names another."""
    chosen = current.model if name == current.name else None
    return chosen or services().providers.get(name).default_model
