"""Metrics of turns and of the AI providers."""

from typing import Final, Literal

from app.metrics.registry import OTHER, KnownChildren, LabelledChildren, counter, gauge, histogram

CircuitState = Literal["closed", "half_open", "open"]

_CIRCUIT_VALUES: Final[dict[CircuitState, int]] = {"closed": 0, "half_open": 1, "open": 2}
_ANSWER_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60)

AI_REQUEST_DURATION = histogram(
    "ai_request_duration_seconds",
    "Time from requesting an answer to its end, failed tries included.",
    ("provider", "model", "outcome"),
    buckets=_ANSWER_BUCKETS,
)
AI_TIME_TO_FIRST_TOKEN = histogram(
    "ai_time_to_first_token_seconds",
    "Time from requesting an answer to its first token, failed tries included.",
    ("provider", "model"),
    buckets=_FIRST_TOKEN_BUCKETS,
)
AI_TOKENS = counter("ai_tokens_total", "Tokens by type, input or output, as counted by the providers.", ("type",))
AI_ERRORS = counter("ai_errors_total", "Answers that failed after all retries, by error code.", ("error_type",))

AI_RETRIES = counter(
    "ai_retries_total",
    "Retries of a provider after a transient failure, by the error code of that failure.",
    ("provider", "error_type"),
)
AI_FALLBACKS = counter("ai_fallbacks_total", "Answers by a fallback provider instead of the chosen one.", ("provider",))
AI_CIRCUIT_STATE = gauge(
    "ai_circuit_state",
    "State of the circuit of a provider's default model in a process: 0 closed, 1 half open (one trial request), 2 open"
    " (no requests); the model __other__ is the worst state of all other models.",
    ("provider", "model"),
    mode="liveall",
)

TURNS = counter("turns_total", "Attempts at a turn that have ended, by stored status.", ("status",))
TURNS_RUNNING = gauge("turns_running", "Turns in progress.", mode="livesum")
TURN_DURATION = histogram(
    "turn_duration_seconds",
    "Time from the start of a turn to its stored end.",
    buckets=_ANSWER_BUCKETS,
)
TURNS_RESUMED = counter("turns_resumed_total", "Requests that joined a running turn.")
TURNS_REPLAYED = counter("turns_replayed_total", "Requests that were answered by replaying a completed turn.")

# Exposed from the start, so that a sum is 0 and not absent before the first failure.
AI_ERRORS.series = [(OTHER,)]
AI_RETRIES.series = [(OTHER, OTHER)]
AI_FALLBACKS.series = [(OTHER,)]
_durations = LabelledChildren(AI_REQUEST_DURATION, limit=100, overflow=(OTHER, OTHER, OTHER))
_first_tokens = LabelledChildren(AI_TIME_TO_FIRST_TOKEN, limit=100, overflow=(OTHER, OTHER))
_errors = LabelledChildren(AI_ERRORS, limit=50, overflow=(OTHER,))
_retries = LabelledChildren(AI_RETRIES, limit=100, overflow=(OTHER, OTHER))
_tokens = KnownChildren(AI_TOKENS, [("input",), ("output",)])
_ends = KnownChildren(TURNS, [("completed",), ("failed",), ("cancelled",), ("interrupted",)])


def record_turn_begun() -> None:
    """Record the start of a turn. Call `record_turn` when it ends, in every case."""
    TURNS_RUNNING.metric.inc()


def record_turn(status: str | None, seconds: float) -> None:
    """Record that this process has left a turn, `seconds` after its start.

    `status` is the stored status. It is None if this process stored none, because another one had closed the turn or
    the database was unavailable: the process that closes the turn counts it.
    """
    TURNS_RUNNING.metric.dec()
    if status is not None:
        _ends[(status,)].inc()
        TURN_DURATION.metric.observe(seconds)


def record_turn_closed(status: str) -> None:
    """Record the stored end of a stale turn, whose own process no longer sends heartbeats."""
    _ends[(status,)].inc()


def record_turn_resumed() -> None:
    """Record that a request joined a running turn."""
    TURNS_RESUMED.metric.inc()


def record_turn_replayed() -> None:
    """Record that a request was answered by replaying a completed turn."""
    TURNS_REPLAYED.metric.inc()


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
    """Record the end of a provider's answer.

    `provider` and `model` are configured names or `OTHER`, because callers may name any model. `first_token` is in
    seconds from the request, None if no token arrived. `error_type` is an error code.
    """
    _durations[provider, model, outcome].observe(seconds)
    if first_token is not None:
        _first_tokens[provider, model].observe(first_token)
    if input_tokens:
        _tokens[("input",)].inc(input_tokens)
    if output_tokens:
        _tokens[("output",)].inc(output_tokens)
    if error_type is not None:
        _errors[(error_type,)].inc()


def record_ai_retry(provider: str, error_type: str) -> None:
    """Record a retry of `provider`, a configured one, after a failure with the error code `error_type`."""
    _retries[provider, error_type].inc()


def record_ai_fallback(provider: str) -> None:
    """Record that `provider`, a configured one, answers instead of the chosen one."""
    AI_FALLBACKS.metric.labels(provider).inc()


def record_circuit(provider: str, model: str, state: CircuitState) -> None:
    """Record the new state of a circuit in this process: of the default model of `provider`, or of `OTHER`."""
    AI_CIRCUIT_STATE.metric.labels(provider, model).set(_CIRCUIT_VALUES[state])
