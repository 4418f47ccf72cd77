"""What the doctor found, for dashboards and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from app.metrics.readings import Values, record_readings
from app.metrics.registry import reading

_STATE = reading("check_state", "What a check last said: 0 ok, 1 warning, 2 critical, 3 cannot judge.", ("check",))
_FINDINGS = reading("index_findings", "Things wrong with the indexes.", ("check", "severity"))

INDEXES = "indexes."
SEVERITIES = ("warning", "critical")


def record_examination(place: str, states: Mapping[str, int], findings: Mapping[str, Iterable[str]]) -> None:
    """The state of each check, and the severity of each of its findings. What was recorded before for the same `place`,
    `checks` or `checks_thorough`, is replaced as a whole.
    """
    counted = {check: Counter(found) for check, found in findings.items() if check.startswith(INDEXES)}
    values: Values = {
        _STATE: {(check,): float(state) for check, state in states.items()},
        _FINDINGS: {(check, severity): float(of[severity]) for check, of in counted.items() for severity in SEVERITIES},
    }
    record_readings(place, values)
