"""The files of a store in the order of their names, in bounded memory: long lists are sorted in temporary files."""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import IO

import orjson

from app.storage.base import StoredFile

IN_MEMORY = 20_000  # files that are sorted in memory, and written to one temporary file
_by_name = attrgetter("name")


def sorted_by_name(files: Iterable[StoredFile]) -> Iterator[StoredFile]:
    """Yield the files sorted by name. All are read before the first one is yielded."""
    files = iter(files)
    run = sorted(islice(files, IN_MEMORY), key=_by_name)
    if len(run) < IN_MEMORY:
        yield from run
        return
    with ExitStack() as stack:
        runs = []
        while run:
            runs.append(stack.enter_context(tempfile.TemporaryFile()))
            _write(runs[-1], run)
            run = sorted(islice(files, IN_MEMORY), key=_by_name)
        yield from heapq.merge(*map(_read, runs), key=_by_name)


class SizesByName:
    """Sizes of files, looked up in the order of their names."""

    def __init__(self, files: Iterable[StoredFile]) -> None:
        """Take the files, sorted by name."""
        self._files = iter(files)
        self._next = next(self._files, None)

    def find(self, name: str) -> int | None:
        """Return the size of a file, or None. Each call must ask for a greater name than the one before."""
        while self._next is not None and self._next.name < name:
            self._next = next(self._files, None)
        return self._next.size if self._next is not None and self._next.name == name else None


def _write(file: IO[bytes], run: Iterable[StoredFile]) -> None:
    for stored in run:
        line = (stored.name, stored.size, stored.stored_at.isoformat())
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    file.seek(0)


def _read(file: IO[bytes]) -> Iterator[StoredFile]:
    for line in file:
        name, size, stored_at = orjson.loads(line)
        yield StoredFile(name, size, datetime.fromisoformat(stored_at))
