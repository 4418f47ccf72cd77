"""Durations and sizes as short text."""

from datetime import timedelta


def format_duration(duration: timedelta) -> str:
    """Format a duration with its two largest units: `3 d 4 h`, `2 min 5 s`, `0.31 s`."""
    seconds = duration.total_seconds()
    if abs(seconds) < 60:
        return f"{seconds:.3g} s"
    for unit_seconds, unit, part_seconds, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if abs(seconds) >= unit_seconds:
            count, rest = divmod(int(seconds), unit_seconds)
            return f"{count} {unit} {rest // part_seconds} {part}"
    raise AssertionError("unreachable")


def format_size(size: float) -> str:
    """Format a number of bytes in powers of 1024: `512 B`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
