"""Who was refused for having had his share, and whether the processes count together."""

from app.metrics.registry import counter, gauge

# Every one there is, from the start: what has never been seen is 0, not absent.
LIMITS = ("user", "key", "address", "login", "register", "export", "turns", "tokens")

_REFUSALS = counter("limit_refusals_total", "Requests refused because a limit was reached, by the limit.", ("limit",))
_ALONE = gauge(
    "limits_counted_alone",
    "Processes that count limits for themselves, because their Redis does not answer.",
    across="livesum",
)

_refusals = {limit: _REFUSALS.labels(limit) for limit in LIMITS}


def record_refusal(limit: str) -> None:
    """A request was refused; `limit` is one of `LIMITS`."""
    _refusals[limit].inc()


def record_counting(*, shared: bool) -> None:
    """This process counts with the others from now on, or for itself."""
    _ALONE.set(0 if shared else 1)
