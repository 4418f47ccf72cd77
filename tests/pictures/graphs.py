"""Graphs over time: lines with a legend, and heat maps."""

import math
import time
from collections.abc import Sequence

from tests.pictures import svg
from tests.pictures.source import Series, Source
from tests.pictures.svg import Box
from tests.pictures.units import text, ticks

COLORS = ("#3274d9", "#37872d", "#e0752d", "#8f3bb8", "#e0b400", "#1f9e9e", "#c4162a", "#705da0", "#7c7c7c", "#ad46a6")
AXIS, TIMES, LEGEND_LINE = 64, 18, 15  # pixels
MOST_LEGENDS = 10


def draw_lines(
    values: Sequence[Series],
    limits: Sequence[tuple[float, str]],
    unit: str,
    source: Source,
    box: Box,
    *,
    end: float | None = None,
) -> list[str]:
    """Draw each series as a line, and each limit of (value, color) as a dashed one, with a legend below.

    `end` is that of the axis; without it, the axis ends above the highest value.
    """
    columns = 2 if box.width > 500 or len(values) > 4 else 1
    shown = sorted(values, key=lambda series: -series.last)[:MOST_LEGENDS]
    legend = math.ceil(len(shown) / columns) * LEGEND_LINE
    plot = box.inner(AXIS, 4, 4, TIMES + legend + 4)
    highest = max(value for series in values for _, value in series.points)
    drawn = [limit for limit in limits if limit[0] <= max(4 * highest, end or 0) or (highest == 0 and limit[0] <= 1)]
    marks = ticks(end or max([highest, *(limit for limit, _ in drawn)]), unit)
    elements = _axes(marks, [text(mark, unit) for mark in marks], source, plot)

    def at(moment: float, value: float) -> tuple[float, float]:
        x = plot.x + (moment - source.begin) / (source.end - source.begin) * plot.width
        return x, plot.y + plot.height * (1 - value / marks[-1])

    colors = {id(series): COLORS[number % len(COLORS)] for number, series in enumerate(values)}
    for series in values:
        for part in _parts(series, source.step):
            elements.append(svg.line([at(*point) for point in part], colors[id(series)]))
    for limit, color in drawn:
        elements.append(svg.line([at(source.begin, limit), at(source.end, limit)], color, dashed=True))
    top = box.y + box.height - legend
    for number, series in enumerate(shown):
        x = box.x + (number % columns) * box.width / columns
        y = top + (number // columns + 1) * LEGEND_LINE - 4
        last = text(series.last, unit)
        name = svg.fitted(series.name, box.width / columns - 24 - 7 * len(last), 11)
        elements += [
            svg.rectangle(Box(x, y - 4, 12, 3), colors[id(series)]),
            svg.label(x + 17, y, f"{name}: {last}", size=11),
        ]
    return elements


def draw_heatmap(values: Sequence[Series], unit: str, source: Source, box: Box) -> list[str]:
    """Draw the buckets of a histogram over time; the darker, the more observations."""
    buckets = sorted(values, key=lambda series: float(series.labels["le"]))
    plot = box.inner(AXIS, 4, 4, TIMES)
    height = plot.height / len(buckets)
    counts: list[dict[float, float]] = []
    below: dict[float, float] = {}
    for series in buckets:
        points = dict(series.points)
        counts.append({moment: max(0.0, value - below.get(moment, 0.0)) for moment, value in points.items()})
        below = points
    most = max((count for bucket in counts for count in bucket.values()), default=0) or 1.0
    width = source.step / (source.end - source.begin) * plot.width
    elements = []
    for number, bucket in enumerate(counts):
        y = plot.y + plot.height - (number + 1) * height
        for moment, count in bucket.items():
            if count > 0:
                x = plot.x + (moment - source.begin) / (source.end - source.begin) * plot.width
                shade = round(225 - 190 * (count / most) ** 0.5)
                cell = Box(x - width, y, width, height - 0.5).inner(max(0.0, plot.x - x + width), 0, 0, 0)
                elements.append(svg.rectangle(cell, f"rgb({shade},{shade},255)"))
        if number % 2 == 0 or len(buckets) < 8:
            bound = float(buckets[number].labels["le"])
            name = "more" if math.isinf(bound) else f"≤ {text(bound, unit)}"
            elements.append(svg.label(plot.x - 5, y + height / 2 + 4, name, size=10.5, color="#666", anchor="end"))
    return elements + _times(source, plot)


def _axes(marks: Sequence[float], names: Sequence[str], source: Source, plot: Box) -> list[str]:
    elements = []
    for mark, name in zip(marks, names, strict=True):
        y = plot.y + plot.height * (1 - mark / marks[-1])
        elements += [
            svg.line([(plot.x, y), (plot.x + plot.width, y)], "#e6e6e6", width=1),
            svg.label(plot.x - 5, y + 4, name, size=10.5, color="#666", anchor="end"),
        ]
    return elements + _times(source, plot)


def _times(source: Source, plot: Box) -> list[str]:
    elements = []
    for quarter in range(5):
        moment = source.begin + (source.end - source.begin) * quarter / 4
        anchor = "start" if quarter == 0 else "end" if quarter == 4 else "middle"
        name = time.strftime("%H:%M", time.localtime(moment))
        x, y = plot.x + plot.width * quarter / 4, plot.y + plot.height + 13
        elements.append(svg.label(x, y, name, size=10.5, color="#666", anchor=anchor))
    return elements


def _parts(series: Series, step: float) -> list[list[tuple[float, float]]]:
    """Return the points in parts: a line does not cross a time without data."""
    parts: list[list[tuple[float, float]]] = [[]]
    for point in series.points:
        if parts[-1] and point[0] - parts[-1][-1][0] > 1.5 * step:
            parts.append([])
        parts[-1].append(point)
    return parts
