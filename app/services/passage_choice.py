"""The choice of the passages of files that a model gets with a question, within a budget of characters.

All passages if they fit. Otherwise the first one of each attached file, those that match the question best, and those
around them; or, if none matches, the first ones.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from app.bounds import INTEGER_MAX
from app.database import sqlstate
from app.repositories import turn_files as sql
from app.services.passage_terms import terms_of

MAX_FILES = 100  # of which passages are shown
_HEADER_CHARS = 60  # of the line above a passage, besides the name
_PASSAGE_CHARS = 1000  # a passage has at least about as many
_MAX_HITS = 100

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file whose text is extracted. `attached`: to a message of the conversation; else it is only the project's."""

    id: UUID
    name: str
    characters: int
    attached: bool


class Choice:
    """The chosen passages. `is_complete` says whether they are all of the files."""

    def __init__(self, files: Sequence[TextFile], budget: int) -> None:
        self.files = files
        self.is_complete = False
        self._left = budget
        self._names = {file.id: file.name for file in files}
        self._rows: dict[UUID, dict[int, Row[Any]]] = {}

    def add(self, rows: Iterable[Row[Any]]) -> None:
        """Add the passages that fit, in this order."""
        for row in rows:
            of_file = self._rows.get(row.file_id)
            cost = len(row.content) + self.header_chars(self._names[row.file_id])
            if cost > self._left or (of_file is None and len(self._rows) >= MAX_FILES):
                continue
            if of_file is None:
                of_file = self._rows[row.file_id] = {}
            if row.ordinal not in of_file:
                of_file[row.ordinal] = row
                self._left -= cost

    def passages(self) -> list[tuple[TextFile, list[Row[Any]]]]:
        """Return the files of which something was chosen, each with its passages in order."""
        chosen = ((file, self._rows.get(file.id)) for file in self.files)
        return [(file, [rows[ordinal] for ordinal in sorted(rows)]) for file, rows in chosen if rows]

    @staticmethod
    def header_chars(name: str) -> int:
        """Return the characters that a passage of a file with this name takes besides its own."""
        return _HEADER_CHARS + len(name)


def choose_passages(
    connection: Connection, user_id: UUID, files: Sequence[TextFile], question: str, budget: int
) -> Choice:
    """Return the passages of these files for a question, of at most `budget` characters with their headers."""
    choice = Choice(files, budget)
    if not files or not budget:
        return choice
    parameters: dict[str, Any] = {"user_id": user_id, "limit": budget // _HEADER_CHARS + 1}
    every = [file.id for file in files]
    if _fits(files, budget):
        all_passages = {**parameters, "file_ids": every, "passages": INTEGER_MAX}
        choice.add(sql.FIRST_PASSAGES.all(connection, all_passages))
        choice.is_complete = True
        return choice
    attached = [file.id for file in files if file.attached]
    if attached:
        choice.add(sql.FIRST_PASSAGES.all(connection, {**parameters, "file_ids": attached, "passages": 1}))
    found = _matching(connection, user_id, every, question, budget)
    if not found:
        first = {"file_ids": attached or every, "passages": budget // _PASSAGE_CHARS + 1}
        found = sql.FIRST_PASSAGES.all(connection, {**parameters, **first})
    choice.add(found)
    return choice


def _fits(files: Sequence[TextFile], budget: int) -> bool:
    sizes = (
        file.characters + (file.characters // _PASSAGE_CHARS + 1) * Choice.header_chars(file.name) for file in files
    )
    return len(files) <= MAX_FILES and sum(sizes) <= budget


def _matching(
    connection: Connection, user_id: UUID, file_ids: Sequence[UUID], question: str, budget: int
) -> Sequence[Row[Any]]:
    """Return the passages that match; none if the search takes longer than a statement may."""
    terms = terms_of(question)
    if not terms:
        return []
    hits = min(_MAX_HITS, budget // _PASSAGE_CHARS + 1)
    try:
        return sql.MATCHING_PASSAGES.all(
            connection, {"user_id": user_id, "file_ids": list(file_ids), "terms": terms, "hits": hits}
        )
    except DBAPIError as error:
        if sqlstate(error) != "57014":  # query_canceled
            raise
        _log.warning("a search of files took too long", extra={"files": len(file_ids)})
        return []
