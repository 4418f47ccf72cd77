"""Values as text, in the units of the dashboards."""

import math


def text(value: float, unit: str) -> str:
    """Return a value with its unit, short enough for an axis."""
    match unit:
        case "s":
            return _duration(value)
        case "bytes":
            return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
        case "percentunit":
            return f"{value * 100:.3g}%"
        case "ops":
            return f"{_number(value)} ops/s"
        case "reqps":
            return f"{_number(value)} req/s"
        case _:
            return _number(value)


def _number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{round(value, 2):g}" if abs(value) < 100 else f"{value:.0f}"
    return _scaled(value, 1000, ("", "K", "M", "G", "T")).replace(" ", "") if abs(value) >= 1 else f"{value:.1g}"


def _duration(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"), (0.001, "ms")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    power = min(len(names) - 1, int(math.log(abs(value), base))) if abs(value) >= 1 else 0
    return f"{value / base**power:.3g} {names[power]}"


def ticks(highest: float, unit: str, count: int = 4) -> list[float]:
    """Return round values from 0 to at least `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    if unit == "bytes" and highest >= 1024:
        size = 1024.0 ** int(math.log(highest, 1024))
        return [mark * size for mark in ticks(highest / size, "", count)]
    raw = highest / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]
