"""Bounded walks over the JSON values of callers.

A body of a megabyte can hold 400,000 values. A walk that visits them in one go would delay all other requests of the
process, so it lets other greenlets run after each slice.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from app.outbound.yielding import Yielder

SLICE_SECONDS = 0.002  # of work on one body before other requests may run
_BATCH = 500  # objects and arrays between two looks at the clock


def levels(value: Any) -> Iterator[list[Any]]:
    """Yield the objects and arrays of a JSON value by their depth: `value` itself, then those inside it, and so on."""
    yielder = Yielder(SLICE_SECONDS)
    level = [value] if isinstance(value, dict | list) else []
    while level:
        yield level
        inner: list[Any] = []
        for start in range(0, len(level), _BATCH):
            for container in level[start : start + _BATCH]:
                inner += [child for child in children(container) if isinstance(child, dict | list)]
            yielder.step()
        level = inner


def children(container: Any) -> Iterable[Any]:
    """Return the values in an object or array."""
    return container.values() if isinstance(container, dict) else container
