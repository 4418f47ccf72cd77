"""What a turn tells the metrics about its provider."""

from typing import Literal, cast

from app.errors import ParleyError
from app.metrics.chat import record_ai_request
from app.metrics.registry import OTHER
from app.models.turn import TurnStatus
from app.providers.registry import ProviderRegistry
from app.services.finish import Answer
from app.services.provider_choice import ProviderChoice
from app.services.running_turn import RunningTurn

AiOutcome = Literal["completed", "failed", "cancelled"]


def record_answer(
    providers: ProviderRegistry,
    choice: ProviderChoice,
    turn: RunningTurn,
    status: TurnStatus,
    answer: Answer,
    error: ParleyError | None,
    seconds: float,
) -> None:
    """A provider has been asked for `turn`, and `answer` is what came of it, `seconds` after the asking."""
    provider, model = _configured(providers, choice, turn)
    ours = status in (TurnStatus.CANCELLED, TurnStatus.INTERRUPTED)  # it was we who hung up
    usage = answer.completed.usage if answer.completed else None
    record_ai_request(
        provider,
        model,
        "cancelled" if ours else cast(AiOutcome, status.value),
        seconds,
        first_token=None if answer.since_first_token is None else seconds - answer.since_first_token,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        error_type=error.code if error and not ours else None,
    )


def _configured(providers: ProviderRegistry, choice: ProviderChoice, turn: RunningTurn) -> tuple[str, str]:
    """The labels of provider and model; people may name any model they like, so only the operator's are shown."""
    if turn.provider not in providers.names:
        return OTHER, OTHER
    if turn.model is not None and (turn.provider, turn.model) == (choice.name, choice.model):
        return turn.provider, turn.model
    model = providers.get(turn.provider).default_model
    return turn.provider, model if turn.model in (None, model) else OTHER
