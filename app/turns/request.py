"""One request to the provider: stream its answer into the turn's events, and map what went wrong to an error."""

import logging
import time
from dataclasses import dataclass

from app.errors import ParleyError, ProviderProtocolError
from app.providers.base import ChatRequest, Completed
from app.providers.registry import ProviderRegistry
from app.turns.event_buffer import DELTA
from app.turns.stream import RunningTurn

_log = logging.getLogger("parley.turns")


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to one request. It is complete if `completed` is set; otherwise it was stopped, or `error` is set.

    `first_token_at` is a time of the monotonic clock; `seconds` and `since_request` count from the request.
    """

    text: str
    completed: Completed | None
    error: ParleyError | None
    first_token_at: float | None
    seconds: float
    since_request: float | None = None  # until the first token


def ask(
    providers: ProviderRegistry, turn: RunningTurn, request: ChatRequest, *, replaceable: bool, written: int = 0
) -> Reply:
    """Send `request` and append the answer to the turn's events. Raise nothing.

    `replaceable`: a fallback provider may answer, which then becomes the turn's. `written` is the length of the text
    that the attempt has streamed before.
    """
    asked_at = time.monotonic()
    completed: Completed | None = None
    first_token_at: float | None = None
    error: ParleyError | None = None
    try:
        with providers.stream(turn.provider, request, replaceable=replaceable) as (provider, events):
            if provider.name != turn.provider:  # the fallback, with its own model
                turn.provider, turn.model = provider.name, None
            for event in events:
                first_token_at = first_token_at or time.monotonic()
                if isinstance(event, Completed):
                    completed = event
                elif turn.stop_status is None:
                    turn.events.append(DELTA, {"text": event.text})
                else:
                    break
    except ParleyError as caught:  # of the provider, or because the project's provider is no longer configured
        error = caught
    except Exception:
        _log.exception("unexpected error in a turn", extra={"turn_id": str(turn.id)})
        error = ParleyError()
    if completed is None and turn.stop_status is None:
        error = error or ProviderProtocolError()
        _log.warning("provider failed: %s", error.code, extra={"provider": turn.provider, "turn_id": str(turn.id)})
    text = turn.events.text()
    return Reply(
        text[written:] if written else text,
        completed,
        error,
        first_token_at,
        time.monotonic() - asked_at,
        first_token_at - asked_at if first_token_at else None,
    )
