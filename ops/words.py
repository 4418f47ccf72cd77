"""Numbers as people say them."""

from datetime import timedelta


def span(length: timedelta) -> str:
    """`3 d 4 h`, `2 min 5 s`, `0.31 s`."""
    seconds = length.total_seconds()
    if abs(seconds) < 60:
        return f"{seconds:.3g} s"
    for size, unit, part_size, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if abs(seconds) >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {unit} {rest // part_size} {part}"
    raise AssertionError("unreachable")


def size(number: float) -> str:
    """Bytes as people say them, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
