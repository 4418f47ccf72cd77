"""Metrics of the web server. Requests are labelled by route template, never by path."""

from app.metrics.process import record_process
from app.metrics.registry import OTHER, LabelledChildren, gauge, histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STATUS_CLASSES = {number: f"{number}xx" for number in range(1, 6)}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MAX_SERIES = 1000  # more than routes times methods times status classes

HTTP_REQUEST_DURATION = histogram(
    "http_request_duration_seconds",
    "Time from receiving a request to sending the last byte of its response, or to the client's disconnect.",
    ("method", "route", "status_class"),
    buckets=_BUCKETS,
)
HTTP_REQUESTS_IN_FLIGHT = gauge("http_requests_in_flight", "Requests in progress, the scrape included.", mode="livesum")
STREAMS_OPEN = gauge("streams_open", "Answers and exports that are being sent or awaited.", mode="livesum")
STREAMS_MAX = gauge("streams_max", "Most answers and exports that a process sends at once.", mode="liveall")

_durations = LabelledChildren(HTTP_REQUEST_DURATION, limit=_MAX_SERIES, overflow=(OTHER, OTHER, OTHER))
# Exposed from the start, so that a sum over a status class is 0 and not absent before its first response.
HTTP_REQUEST_DURATION.series = [(OTHER, OTHER, status_class) for status_class in _STATUS_CLASSES.values()]


def record_streams_max(streams: int) -> None:
    """Record the most streams of this process."""
    STREAMS_MAX.metric.set(streams)


def record_stream_begun() -> None:
    """Record the start of a stream. Call `record_stream_ended` when it ends, in every case."""
    STREAMS_OPEN.metric.inc()


def record_stream_ended() -> None:
    """Record the end of a stream."""
    STREAMS_OPEN.metric.dec()


def record_request_begun() -> None:
    """Record the arrival of a request. Call `record_request` when it ends, in every case."""
    HTTP_REQUESTS_IN_FLIGHT.metric.inc()


def record_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Record the end of a request.

    `route` is its rule, such as `/api/turns/<uuid:turn_id>`, or None if none matched.
    """
    HTTP_REQUESTS_IN_FLIGHT.metric.dec()
    record_process()
    status_class = _STATUS_CLASSES.get(status // 100, OTHER)
    _durations[method if method in _METHODS else OTHER, route or OTHER, status_class].observe(seconds)
