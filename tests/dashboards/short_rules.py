"""A copy of the rules whose times are so short that a test can make the fault of each alert.

Thresholds are those of the rules. Durations and windows are divided by `SCALE`, and the limits of three ages are
replaced. An alert of the copy does not fire for a vanished series, only for its fault: promtool tests the former.
"""

import re
from dataclasses import replace

from ops.catalogue.alerts import Alert, when
from ops.generate.prometheus import all_alerts, rules_file

SCALE = 480
SHORTEST_WINDOW = 15  # seconds: several scrapes, also on a slow machine
UNITS = {"m": 60, "h": 3600, "d": 86_400}
# The ages that nothing but waiting can reach, in seconds. Beat's job runs every 30 s.
AGES = {"ParleyBeatStopped": 45, "ParleyMetricsOld": 45, "ParleyTransactionOld": 5}


def short_rules() -> str:
    """Return the rules with short times."""
    return _with_short_windows(rules_file(short_alerts()))


def short_alerts() -> list[Alert]:
    """Return all alerts with short times."""
    return [_short(alert) for alert in all_alerts()]


def short_values(name: str) -> list[str]:
    """Return the expressions that the alert with this name compares, and its floor."""
    [alert] = [alert for alert in short_alerts() if alert.name == name]
    values = [comparison.value for comparisons in alert.conditions for comparison in comparisons]
    return [_with_short_windows(value) for value in (*values, alert.floor) if value]


def _with_short_windows(text: str) -> str:
    return re.sub(r"\[(\d+)([mhd])\]", lambda match: f"[{_window(int(match[1]) * UNITS[match[2]])}s]", text)


def _window(seconds: int) -> int:
    return max(SHORTEST_WINDOW, seconds // SCALE)


def _short(alert: Alert) -> Alert:
    (comparison, *others), *alternatives = alert.conditions
    conditions = alert.conditions
    if alert.name in AGES:
        assert not others
        assert not alternatives
        limit: str | int = AGES[alert.name]
        if comparison.limit.startswith("time() - "):
            limit = f"time() - {limit}"
        conditions = when(comparison.value, comparison.operator, limit)
    number, unit = int(alert.duration[:-1]), alert.duration[-1]
    duration = f"{max(1, number * UNITS[unit] // SCALE)}s" if number else alert.duration
    return replace(alert, conditions=conditions, required=(), duration=duration)
