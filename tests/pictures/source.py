"""The data of a Prometheus for the panels of a dashboard."""

import json
import math
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

POINTS = 120  # of a series
VALUES_OF_VARIABLES = re.compile(r"\$(job|instance|statement|route)\b")


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its name in the legend, its labels, and its points (Unix time, value)."""

    name: str
    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


class Source:
    """A Prometheus, asked for the `seconds` before `end`."""

    def __init__(self, url: str, *, end: float, seconds: float) -> None:
        self._url = url
        self.begin, self.end = end - seconds, end
        self.step = max(1.0, seconds / POINTS)

    def series(self, target: dict[str, Any]) -> list[Series]:
        """Return the series of a panel's query, without points that are no number."""
        # As Grafana does: the interval of a rate is at least four scrapes.
        window = f"{max(60, round(4 * self.step))}s"
        expression = VALUES_OF_VARIABLES.sub(".*", target["expr"]).replace("$__rate_interval", window)
        if target.get("instant"):
            results = self._get("query", query=expression, time=self.end)
            found = [(sample["metric"], [sample["value"]]) for sample in results]
        else:
            results = self._get("query_range", query=expression, start=self.begin, end=self.end, step=self.step)
            found = [(result["metric"], result["values"]) for result in results]
        return [
            Series(_name(target.get("legendFormat", ""), labels), labels, points)
            for labels, values in found
            if (points := [(float(at), float(value)) for at, value in values if math.isfinite(float(value))])
        ]

    def _get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return result


def _name(legend: str, labels: dict[str, str]) -> str:
    """Return the legend with its `{{label}}` replaced by the values of a series."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), legend)
