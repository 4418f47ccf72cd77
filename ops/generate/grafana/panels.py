"""The declaration of panels and dashboards, and the selectors of their variables."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ops.catalogue.promql import AnyMetric, name_of

Kind = Literal["timeseries", "stat", "table", "heatmap"]
WINDOW = "$__rate_interval"
# Every selector gets the variables of the dashboard. Recorded series have a colon and no such labels.
_SELECTOR = re.compile(r"(?<![\w:])((?:parley_\w+|up)\b(?!:))(\{)?")
_VARIABLES = 'job=~"$job", instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Query:
    """One expression with the name of its series, such as `{{statement}}`, or of its column in a table.

    `unit` is that of the column, if it is not the panel's.
    """

    expr: str
    legend: str = ""
    unit: str = ""

    @property
    def templated(self) -> str:
        """The expression, limited to the chosen jobs and instances."""
        return _SELECTOR.sub(lambda match: f"{match[1]}{{{_VARIABLES}" + (", " if match[2] else "}"), self.expr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `no_value` says what an empty panel means; `runbook` is a page of docs/runbooks without its suffix.

    `thresholds` are (value, color) in rising order; below the first one, the color is `base`.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    no_value: str
    runbook: str
    kind: Kind = "timeseries"
    width: int = 8  # of 24 columns
    height: int = 8
    thresholds: tuple[tuple[float, str], ...] = ()
    base: str = "green"
    link: str = ""  # the uid of the dashboard with the details
    shows_names: bool = False  # of the series, in place of their values
    is_share: bool = False  # the axis ends at 1
    sorted_by: str = ""  # a column of a table, the largest value first


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels, open at the start."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard. `uid` never changes, because links and bookmarks hold it."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[tuple[str, AnyMetric], ...] = field(default=())  # label values to choose from, such as statement


def label_values(metric: AnyMetric, label: str) -> str:
    """Return the query of a variable with the values of a label."""
    return f'label_values({name_of(metric)}{{job=~"$job", instance=~"$instance"}}, {label})'
