"""The declaration of an alert: its conditions, and the series that test it."""

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["page", "ticket"]  # to act on now, or on the next working day


@dataclass(frozen=True, slots=True)
class Signal:
    """One series of a test of an alert: its selector, and its value while all is well and during the fault.

    `kind` says what the values are: of a gauge; the growth of a counter per minute; or, for a timestamp, 1 if it is the
    present time and 0 if it has stopped.
    """

    series: str
    well: float
    fault: float
    kind: Literal["gauge", "counter", "timestamp"] = "gauge"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a value with a limit. The value must exist while all is well, too."""

    value: str
    operator: Literal["<", ">", "=="]
    limit: str

    def __str__(self) -> str:
        return f"{self.value} {self.operator} {self.limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    It fires if all comparisons of one of the `conditions` hold, and `floor`, if any, which keeps the alert quiet where
    there is too little traffic to judge. It also fires if one of the series in `required` is absent. `duration` is how
    long the condition must hold. `affected` says who is hurt.
    """

    name: str
    conditions: tuple[tuple[Comparison, ...], ...]
    required: tuple[str, ...]
    duration: str
    severity: Severity
    summary: str
    affected: str
    runbook: str
    signals: tuple[Signal, ...]
    floor: str = ""
    minutes: int = field(default=40)  # of a test, from the fault to the alert

    @property
    def limit(self) -> float:
        """The limit of the first comparison, for the threshold of a panel. Raises `ValueError` if it is no number."""
        return float(self.conditions[0][0].limit)

    @property
    def expr(self) -> str:
        """The expression of the rule."""
        conditions = " or ".join(_all(comparisons) for comparisons in self.conditions)
        if self.floor:
            conditions = f"({conditions} and {self.floor})"
        return " or ".join([conditions, *(f"absent({name})" for name in self.required)])


def when(value: str, operator: Literal["<", ">", "=="], limit: float | str) -> tuple[tuple[Comparison, ...], ...]:
    """Return the conditions that consist of one comparison."""
    return ((Comparison(value, operator, f"{limit:g}" if isinstance(limit, float | int) else limit),),)


def _all(comparisons: tuple[Comparison, ...]) -> str:
    joined = " and ".join(map(str, comparisons))
    return f"({joined})" if len(comparisons) > 1 else joined


def runbook_path(page: str) -> str:
    return f"docs/runbooks/{page}.md"


def histogram_signals(metric: str, le_below: str, le_above: str, labels: str) -> tuple[Signal, ...]:
    """Return the signals of a histogram whose observations move from below `le_below` to below `le_above`."""
    return (
        Signal(f'{metric}_bucket{{{labels}le="{le_below}"}}', 600, 0, "counter"),
        Signal(f'{metric}_bucket{{{labels}le="{le_above}"}}', 600, 600, "counter"),
        Signal(f'{metric}_bucket{{{labels}le="+Inf"}}', 600, 600, "counter"),
        Signal(f"{metric}_count" + (f"{{{labels.rstrip(', ')}}}" if labels else ""), 600, 600, "counter"),
    )
