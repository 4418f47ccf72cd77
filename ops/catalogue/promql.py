"""PromQL expressions over metric objects, so that a renamed metric fails at import.

Selectors have no labels of Prometheus's own, such as `job`: a rule sees all of Parley that a Prometheus scrapes.
"""

from collections.abc import Sequence
from typing import Any

from app.metrics.registry import Declared, DeferredMetric

AnyMetric = Declared | DeferredMetric[Any]


def name_of(metric: AnyMetric) -> str:
    """Return the full name of a metric, such as `parley_turns_total`."""
    return metric.name if isinstance(metric, Declared) else metric.declared.name


def series(metric: AnyMetric, suffix: str = "", **labels: str) -> str:
    """Return a selector. A value of `labels` that begins with `~` is a regular expression, one with `!` is excluded.

    Raises `ValueError` for a label that the metric does not have.
    """
    declared = metric if isinstance(metric, Declared) else metric.declared
    unknown = set(labels) - {*declared.labels, "le", "process"}
    if unknown:
        raise ValueError(f"{declared.name} has no label {', '.join(sorted(unknown))}")
    matchers = [_matcher(label, value) for label, value in labels.items()]
    return f"{declared.name}{suffix}" + (f"{{{', '.join(matchers)}}}" if matchers else "")


def _matcher(label: str, value: str) -> str:
    operator = {"~": "=~", "!": "!="}.get(value[:1])
    return f'{label}{operator}"{value[1:]}"' if operator else f'{label}="{value}"'


def rate(metric: AnyMetric, window: str, by: Sequence[str] = (), suffix: str = "", **labels: str) -> str:
    """Return the summed rate per second over `window`, such as `5m`, for each value of the labels `by`."""
    return f"sum{_by(by)}(rate({series(metric, suffix, **labels)}[{window}]))"


def quantile(q: float, metric: AnyMetric, window: str, by: Sequence[str] = (), **labels: str) -> str:
    """Return the quantile `q` of a histogram over `window`, for each value of the labels `by`."""
    return f"histogram_quantile({q}, {rate(metric, window, ('le', *by), '_bucket', **labels)})"


def age(metric: AnyMetric, **labels: str) -> str:
    """Return the seconds since the newest timestamp that the metric holds."""
    return f"time() - max({series(metric, **labels)})"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""
