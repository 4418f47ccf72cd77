"""What the web server does: requests by route template, never by path."""

from app.metrics.registry import OTHER, Children, gauge, histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERIES = 1000  # routes times methods times classes of status; beyond that something is made up

_DURATION = histogram(
    "http_request_duration_seconds",
    "Time from a request's arrival to the last byte of its answer, or to the client's leaving; streams included.",
    ("method", "route", "status_class"),
    buckets=_BUCKETS,
)
_IN_FLIGHT = gauge("http_requests_in_flight", "Requests being answered, this one included.", across="livesum")

_durations = Children(_DURATION, limit=_SERIES, overflow=(OTHER, OTHER, OTHER))


def record_request_begun() -> None:
    """A request has arrived; `record_request` must follow, however it ends."""
    _IN_FLIGHT.inc()


def record_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """A request has ended. `route` is its rule, such as `/api/turns/<uuid:turn_id>`; None where none matched."""
    _IN_FLIGHT.dec()
    labels = (method if method in _METHODS else OTHER, route or OTHER, f"{status // 100}xx")
    _durations[labels].observe(seconds)
