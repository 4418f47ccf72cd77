"""Elements of an SVG document."""

from dataclasses import dataclass
from html import escape

FONT = "font-family:Inter,Roboto,Helvetica,Arial,sans-serif"
CHARACTER = 0.56  # mean width of a character, as a share of the font's size


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    width: float
    height: float

    def inner(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """Return the box without these margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


def label(
    x: float, y: float, content: str, *, size: float = 12, color: str = "#333", anchor: str = "start", weight: int = 400
) -> str:
    """Return a line of text whose baseline begins, is centred or ends at (x, y)."""
    style = f"font-size:{size:g}px;font-weight:{weight};text-anchor:{anchor}"
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" style="{style}">{escape(content)}</text>'


def fitted(content: str, width: float, size: float = 12) -> str:
    """Return the text, cut to what fits into `width`."""
    most = max(1, int(width / (size * CHARACTER)))
    return content if len(content) <= most else f"{content[: most - 1]}…"


def wrapped(content: str, width: float, size: float = 12) -> list[str]:
    """Return the text in lines that fit into `width`."""
    most, lines = max(1, int(width / (size * CHARACTER))), [""]
    for word in content.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def rectangle(box: Box, fill: str, stroke: str = "none") -> str:
    """Return a rectangle."""
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="2"'
        f' fill="{fill}" stroke="{stroke}"/>'
    )


def line(points: list[tuple[float, float]], color: str, *, width: float = 1.5, dashed: bool = False) -> str:
    """Return a line through these points; a single point is a dot."""
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2" fill="{color}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashes}/>'


def document(width: float, height: float, elements: list[str]) -> str:
    """Return the whole document, on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" style="{FONT}">'
    )
    background = rectangle(Box(0, 0, width, height), "#f4f5f5")
    return "\n".join([head, background, *elements, "</svg>", ""])
