"""Metrics of the doctor's checks, for dashboards and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta

from app.metrics.external_gauges import Values, record_external_gauges
from app.metrics.registry import external_gauge

STATES = ("ok", "warning", "critical", "unknown")
INDEXES = "indexes."
SEVERITIES = ("warning", "critical")

_TTLS = {"checks": timedelta(hours=1), "checks_thorough": timedelta(hours=50)}  # run every 10 minutes, every day
# One series per state, as kube-state-metrics has it: numbers would put "unknown" above or below "critical".
CHECK_STATE = external_gauge(
    "check_state", "1 for the state that a check was last in, 0 for the others.", ("check", "state")
)
INDEX_FINDINGS = external_gauge(
    "index_findings", "Index problems found by a check, by severity.", ("check", "severity")
)


def record_check_results(group: str, states: Mapping[str, str], findings: Mapping[str, Iterable[str]]) -> None:
    """Record the state of each check, one of `STATES`, and the severities of its findings.

    Replaces everything recorded before for the same `group`, `checks` or `checks_thorough`.
    """
    counts = {check: Counter(severities) for check, severities in findings.items() if check.startswith(INDEXES)}
    values: Values = {
        CHECK_STATE: {(check, state): float(state == last) for check, last in states.items() for state in STATES},
        INDEX_FINDINGS: {
            (check, severity): float(of[severity]) for check, of in counts.items() for severity in SEVERITIES
        },
    }
    record_external_gauges(group, values, ttl=_TTLS[group])
