"""Turns, and what the AI providers do for them."""

from typing import Final, Literal

from app.metrics.registry import OTHER, Children, counter, gauge, histogram

CircuitState = Literal["closed", "half_open", "open"]

_CIRCUIT_VALUES: Final[dict[CircuitState, int]] = {"closed": 0, "half_open": 1, "open": 2}
_ANSWER_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60)

_AI_DURATION = histogram(
    "ai_request_duration_seconds",
    "Time from asking for an answer to its end, tries in vain included. A cancelled one was ended by us.",
    ("provider", "model", "outcome"),
    buckets=_ANSWER_BUCKETS,
)
_AI_FIRST_TOKEN = histogram(
    "ai_time_to_first_token_seconds",
    "Time from asking for an answer to its first piece, tries in vain included.",
    ("provider", "model"),
    buckets=_FIRST_TOKEN_BUCKETS,
)
_AI_TOKENS = counter("ai_tokens_total", "Tokens as the providers counted them: input and output.", ("type",))
_AI_ERRORS = counter("ai_errors_total", "Answers that failed for good, by the code of the error.", ("error_type",))

_AI_RETRIES = counter(
    "ai_retries_total",
    "Requests put to a provider once more because they had failed in passing, by the code of that failure.",
    ("provider", "error_type"),
)
_AI_FALLBACKS = counter("ai_fallbacks_total", "Answers by a provider in place of the chosen one.", ("provider",))
_AI_CIRCUIT = gauge(
    "ai_circuit_state",
    "Whether a process asks a provider: 0 yes (closed), 1 one request to find out (half open), 2 no (open).",
    ("provider",),
    across="liveall",
)

_TURNS = counter("turns_total", "Attempts at a turn that ended, by how, as stored: each once.", ("status",))
_RUNNING = gauge("turns_running", "Turns being answered.", across="livesum")
_TURN_DURATION = histogram(
    "turn_duration_seconds",
    "Time from a turn's beginning to its stored end.",
    buckets=_ANSWER_BUCKETS,
)
_RESUMED = counter("turns_resumed_total", "Requests that joined a turn which was being answered already.")
_REPLAYED = counter("turns_replayed_total", "Requests that were told a completed turn again.")

_durations = Children(_AI_DURATION, limit=100, overflow=(OTHER, OTHER, OTHER))
_first_tokens = Children(_AI_FIRST_TOKEN, limit=100, overflow=(OTHER, OTHER))
_errors = Children(_AI_ERRORS, limit=50, overflow=(OTHER,))
_retries = Children(_AI_RETRIES, limit=100, overflow=(OTHER, OTHER))
_input_tokens = _AI_TOKENS.labels("input")
_output_tokens = _AI_TOKENS.labels("output")
# All of them from the start: what has never been seen is 0, not absent.
_ends = {status: _TURNS.labels(status) for status in ("completed", "failed", "cancelled", "interrupted")}


def record_turn_begun() -> None:
    """A turn is being answered; `record_turn` must follow, however it ends."""
    _RUNNING.inc()


def record_turn(status: str | None, seconds: float) -> None:
    """This process has left a turn, so long after it began.

    `status` is how the turn was stored to have ended; None where this process stored nothing, because another one had
    closed the turn or because the database stayed away: whoever closes it counts it.
    """
    _RUNNING.dec()
    if status is not None:
        _ends[status].inc()
        _TURN_DURATION.observe(seconds)


def record_turn_closed(status: str) -> None:
    """The end of a turn has been stored whose own process went silent."""
    _ends[status].inc()


def record_turn_resumed() -> None:
    """A request joined a running turn."""
    _RESUMED.inc()


def record_turn_replayed() -> None:
    """A request was told a completed turn again."""
    _REPLAYED.inc()


def record_ai_request(
    provider: str,
    model: str,
    outcome: Literal["completed", "failed", "cancelled"],
    seconds: float,
    *,
    first_token: float | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    error_type: str | None = None,
) -> None:
    """A provider's answer has ended.

    `provider` and `model` are configured ones or `OTHER`: people may name any model they like. `first_token` is in
    seconds from the asking, None if nothing came. `error_type` is an error's code.
    """
    _durations[provider, model, outcome].observe(seconds)
    if first_token is not None:
        _first_tokens[provider, model].observe(first_token)
    if input_tokens:
        _input_tokens.inc(input_tokens)
    if output_tokens:
        _output_tokens.inc(output_tokens)
    if error_type is not None:
        _errors[(error_type,)].inc()


def record_ai_retry(provider: str, error_type: str) -> None:
    """`provider`, one that is configured, is asked once more after a failure with the code `error_type`."""
    _retries[provider, error_type].inc()


def record_ai_fallback(provider: str) -> None:
    """`provider`, one that is configured, answers in place of the chosen one."""
    _AI_FALLBACKS.labels(provider).inc()


def record_circuit(provider: str, state: CircuitState) -> None:
    """The circuit of `provider`, one that is configured, is in this state from now on in this process."""
    _AI_CIRCUIT.labels(provider).set(_CIRCUIT_VALUES[state])
