"""Metrics of a provider's answer to a turn."""

from typing import Literal

from app.metrics.chat import record_ai_request
from app.metrics.registry import OTHER
from app.providers.registry import ProviderRegistry
from app.services.provider_choice import ProviderChoice
from app.turns.request import Reply
from app.turns.stream import RunningTurn

AiOutcome = Literal["completed", "failed", "cancelled"]


def record_reply(providers: ProviderRegistry, choice: ProviderChoice, turn: RunningTurn, reply: Reply) -> None:
    """Record the provider's answer to one request of `turn`."""
    provider, model = _labels(providers, choice, turn)
    outcome: AiOutcome = "failed" if reply.error else "completed" if reply.completed else "cancelled"
    if turn.stop_status is not None and reply.completed is None:
        outcome = "cancelled"  # by this server; the error is a consequence
    completed, first_token = reply.completed, reply.since_request
    record_ai_request(
        provider,
        model,
        outcome,
        reply.seconds,
        first_token=first_token,
        input_tokens=completed.usage.input_tokens if completed else None,
        output_tokens=completed.usage.output_tokens if completed else None,
        error_type=reply.error.code if reply.error and outcome == "failed" else None,
    )


def _labels(providers: ProviderRegistry, choice: ProviderChoice, turn: RunningTurn) -> tuple[str, str]:
    """Return the labels of provider and model: configured ones only, because users may request any model."""
    if turn.provider not in providers.names:
        return OTHER, OTHER
    if turn.model is not None and (turn.provider, turn.model) == (choice.name, choice.model):
        return turn.provider, turn.model
    model = providers.get(turn.provider).default_model
    return turn.provider, model if turn.model in (None, model) else OTHER
