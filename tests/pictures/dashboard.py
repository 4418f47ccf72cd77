"""One dashboard: its title, and its panels in the grid of its JSON."""

from typing import Any

from tests.pictures import svg
from tests.pictures.panels import draw_panel
from tests.pictures.source import Source
from tests.pictures.svg import Box

COLUMN, LINE, GAP, HEAD = 60, 36, 6, 62  # pixels
COLUMNS = 24


def draw_dashboard(document: dict[str, Any], source: Source) -> str:
    """Return the picture of a dashboard."""
    elements = [
        svg.label(GAP * 2, 28, document["title"], size=20, weight=600),
        svg.label(GAP * 2, 50, document["description"], size=13, color="#555"),
    ]
    bottom = 0
    for panel in document["panels"]:
        position = panel["gridPos"]
        bottom = max(bottom, position["y"] + position["h"])
        box = Box(
            position["x"] * COLUMN + GAP,
            position["y"] * LINE + HEAD,
            position["w"] * COLUMN - GAP,
            position["h"] * LINE - GAP,
        )
        if panel["type"] == "row":
            elements.append(svg.label(box.x, box.y + 22, panel["title"], size=15, weight=600))
        else:
            elements += draw_panel(panel, source, box)
    return svg.document(COLUMNS * COLUMN + GAP, bottom * LINE + HEAD + GAP, elements)
