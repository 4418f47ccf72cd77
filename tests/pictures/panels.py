"""The panels: a title, and a value, lines, a table or a heat map."""

from typing import Any

from tests.pictures import svg
from tests.pictures.graphs import draw_heatmap, draw_lines
from tests.pictures.source import Source
from tests.pictures.svg import Box
from tests.pictures.units import text

NAMES = {"green": "#37872d", "red": "#e02f44", "orange": "#ff780a", "blue": "#1f60c4"}
TITLE, ROW = 26, 17  # pixels
NO_LABELS = {"__name__", "job", "instance"}


def draw_panel(panel: dict[str, Any], source: Source, box: Box) -> list[str]:
    """Return the elements of a panel; without data, it says what that means, as in Grafana."""
    elements = [
        svg.rectangle(box, "#fff", "#d8d9da"),
        svg.label(box.x + 8, box.y + 18, svg.fitted(panel["title"], box.width - 16, 13), size=13, weight=600),
    ]
    found = [(target, source.series(target)) for target in panel["targets"]]
    content = box.inner(8, TITLE, 8, 6)
    if not any(series for _, series in found):
        lines = svg.wrapped(panel["fieldConfig"]["defaults"]["noValue"], content.width)
        middle = content.y + content.height / 2 - (len(lines) - 1) * 8
        return elements + [
            svg.label(content.x + content.width / 2, middle + 16 * number, words, color="#777", anchor="middle")
            for number, words in enumerate(lines)
        ]
    return elements + KINDS[panel["type"]](panel, found, source, content)


def _draw_value(panel: dict[str, Any], found: Any, source: Source, box: Box) -> list[str]:
    values = [series for _, all_series in found for series in all_series]
    unit, names = panel["fieldConfig"]["defaults"]["unit"], panel["options"].get("textMode") == "name"
    height = box.height / len(values)
    size = min(34.0, height * 0.6)
    return [
        svg.label(
            box.x + box.width / 2,
            box.y + height * (number + 0.5) + size / 3,
            series.name if names else text(series.last, unit),
            size=size,
            color=NAMES[_color(panel, series.last)],
            anchor="middle",
            weight=600,
        )
        for number, series in enumerate(values)
    ]


def _draw_lines(panel: dict[str, Any], found: Any, source: Source, box: Box) -> list[str]:
    limits = [(step["value"], NAMES[step["color"]]) for step in _steps(panel) if step["value"] is not None]
    if panel["fieldConfig"]["defaults"]["custom"].get("thresholdsStyle", {}).get("mode", "off") == "off":
        limits = []
    values = [series for _, all_series in found for series in all_series]
    defaults = panel["fieldConfig"]["defaults"]
    return draw_lines(values, limits, defaults["unit"], source, box, end=defaults.get("max"))


def _draw_heatmap(panel: dict[str, Any], found: Any, source: Source, box: Box) -> list[str]:
    return draw_heatmap(found[0][1], panel["fieldConfig"]["defaults"]["unit"], source, box)


def _draw_table(panel: dict[str, Any], found: Any, _: Source, box: Box) -> list[str]:
    """Draw a row for each set of labels, and a column for each query with a name."""
    named = [(target, series) for target, series in found if target["legendFormat"]]
    rows: dict[str, dict[str, float]] = {}
    for target, all_series in found:
        for series in all_series:
            labels = [value for name, value in sorted(series.labels.items()) if name not in NO_LABELS]
            rows.setdefault("   ".join(labels), {})[target["legendFormat"]] = series.last
    names = sorted(rows)
    for sort in panel["options"].get("sortBy", []):
        names.sort(key=lambda name: rows[name].get(sort["displayName"], 0), reverse=sort["desc"])
    units = {
        override["matcher"]["options"]: entry["value"]
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "unit"
    }
    first = 2 * box.width / (len(named) + 2)
    width = first / 2
    elements = []
    for column, (target, _series) in enumerate(named):
        name, end = target["legendFormat"], box.x + first + width * (column + 1) - 6
        unit = units.get(name, panel["fieldConfig"]["defaults"]["unit"])
        elements.append(svg.label(end, box.y + 12, svg.fitted(name, width - 8), weight=600, anchor="end"))
        for line, row in enumerate(names[: _room(box)]):
            value = rows[row].get(name)
            content = "" if value is None else text(value, unit)
            elements.append(svg.label(end, _baseline(box, line), content, anchor="end"))
    return elements + [
        svg.label(box.x + 2, _baseline(box, line), svg.fitted(row, first))
        for line, row in enumerate(names[: _room(box)])
    ]


def _room(box: Box) -> int:
    """Return the number of rows that a table has room for."""
    return int((box.height - 18) / ROW)


def _baseline(box: Box, line: int) -> float:
    return box.y + 30 + ROW * line


def _color(panel: dict[str, Any], value: float) -> str:
    color: str = _steps(panel)[0]["color"]
    for step in _steps(panel)[1:]:
        if value >= step["value"]:
            color = step["color"]
    return color


def _steps(panel: dict[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return steps


KINDS: dict[str, Any] = {
    "stat": _draw_value,
    "timeseries": _draw_lines,
    "table": _draw_table,
    "heatmap": _draw_heatmap,
}
