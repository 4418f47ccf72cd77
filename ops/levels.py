"""Severity levels of results and their exit codes."""

import enum
from collections.abc import Iterable

USAGE = 64  # exit code of usage errors, as in sysexits.h


class Level(enum.StrEnum):
    """The result of a check. `UNKNOWN`: the state could not be determined, which is never the same as `OK`."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """The exit code of a command with this result."""
        return _EXIT_CODES[self]


_EXIT_CODES = {Level.OK: 0, Level.WARNING: 1, Level.CRITICAL: 2, Level.UNKNOWN: 3}
# A known problem comes before an unknown state.
_ORDER = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of `levels`; `OK` without any."""
    present = set(levels)
    return next((level for level in _ORDER if level in present), Level.OK)
