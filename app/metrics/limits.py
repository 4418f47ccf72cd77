"""Metrics of rate limits: rejected requests, and processes that count without Redis."""

from app.metrics.registry import KnownChildren, counter, gauge

LIMITS = (
    "user",
    "key",
    "address",
    "login",
    "register",
    "reset",
    "export",
    "turns",
    "tokens",
    "streams",
    "files",
    "concurrent",
    "bytes",
)

RATE_LIMIT_REJECTIONS = counter("rate_limit_rejections_total", "Requests rejected by a limit, by limit.", ("limit",))
RATE_LIMIT_LOCAL_PROCESSES = gauge(
    "rate_limit_local_processes",
    "Processes that count limits in their own memory, because Redis is unavailable.",
    mode="livesum",
)

_rejections = KnownChildren(RATE_LIMIT_REJECTIONS, [(limit,) for limit in LIMITS])


def record_rejection(limit: str) -> None:
    """Record that a request was rejected by `limit`, one of `LIMITS`."""
    _rejections[(limit,)].inc()


def record_counting(*, shared: bool) -> None:
    """Record whether this process counts limits in Redis, with all others, or in its own memory."""
    RATE_LIMIT_LOCAL_PROCESSES.metric.set(0 if shared else 1)
