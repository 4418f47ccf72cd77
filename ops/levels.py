"""How bad something is, and what a command's exit code says of it."""

import enum
from collections.abc import Iterable


class Level(enum.StrEnum):
    """The outcome of a check. `UNKNOWN`: it could not be judged, which is never the same as `OK`."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "cannot judge"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]


_EXIT_CODES = {Level.OK: 0, Level.WARNING: 1, Level.CRITICAL: 2, Level.UNKNOWN: 3}
# What is known to be wrong is told before what is not known.
_ORDER = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)


def worst(levels: Iterable[Level]) -> Level:
    """The one that speaks for all of `levels`; `OK` of none."""
    found = set(levels)
    return next((level for level in _ORDER if level in found), Level.OK)
