"""Recording rules: ratios over several windows, shared by alerts and panels."""

from dataclasses import dataclass

from app.metrics.chat import TURNS
from app.metrics.http import HTTP_REQUEST_DURATION
from ops.catalogue.promql import rate

OBJECTIVE = 0.999  # of requests that end without a server error, over 30 days
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """One series that Prometheus computes, by its name, and the expression for it."""

    name: str
    expr: str


def error_ratio(window: str) -> str:
    """Return the name of the series with the share of requests that ended with a server error in `window`."""
    return f"parley:http_requests_errors:ratio_rate{window}"


def _error_ratio_rule(window: str) -> RecordingRule:
    errors = rate(HTTP_REQUEST_DURATION, window, suffix="_count", status_class="5xx")
    return RecordingRule(error_ratio(window), f"{errors} / {rate(HTTP_REQUEST_DURATION, window, suffix='_count')}")


TURNS_FAILED_RATIO = RecordingRule(
    "parley:turns_failed:ratio_rate10m",
    f"{rate(TURNS, '10m', status='~failed|interrupted')} / {rate(TURNS, '10m')}",
)
RECORDING_RULES = (*(_error_ratio_rule(window) for window in WINDOWS), TURNS_FAILED_RATIO)
