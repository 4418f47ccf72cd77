"""The files of a turn: the project's and those attached to its messages, as the model gets them.

They are read after the begin and before the request. No connection is held while the store or the provider is awaited.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine, Row

from app.config import Files
from app.enums import FileTextState
from app.providers.base import ChatMessage
from app.providers.file_parts import IMAGE_TYPES, FileParts, Passage, ShownFile, quoted
from app.repositories import turn_files as sql
from app.repositories.turn_events import RECORD_METADATA
from app.services.file_references import FileReference
from app.services.passage_choice import Choice, TextFile, choose_passages
from app.storage.base import Store
from app.turns.attempt import Attempt
from app.turns.images import ImageLoader, StoredImage
from app.turns.limits import BYTES_PER_TOKEN

PROJECT_FILES = 500  # the newest of a project that are searched
NOTED_FILES = 20  # named with the reason why they are not shown

_REASONS = {
    "pending": "its text is still being extracted",
    "failed": "its text could not be extracted",
    "deleted": "it was deleted",
    "no_text": "it has no text",
    "limit": "there are more or larger images than may be sent",
    "busy": "too many other images are being shown at this moment",
    "unavailable": "it could not be read",
    "budget": "none of its text was chosen",
}


@dataclass(slots=True)
class _Found:
    """Files of a turn: texts and images to show, and reasons for the others."""

    texts: list[TextFile] = field(default_factory=list)
    images: list[StoredImage] = field(default_factory=list)
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)  # by id: the name and the reason

    def leave_out(self, file_id: UUID | str, name: str, reason: str) -> None:
        self.left_out[str(file_id)] = (name, reason)


class TurnFiles:
    """Adds files to the context of the turns of one process. `engine` is in AUTOCOMMIT."""

    def __init__(self, engine: Engine, settings: Files, open_store: Callable[[], Store]) -> None:
        self._engine, self._settings = engine, settings
        self._images = ImageLoader(settings, open_store)

    @contextmanager
    def add_to(self, attempt: Attempt) -> Iterator[Attempt]:
        """Yield the attempt with its files in the context. Raises the errors of the database."""
        asked = _last_of_user(attempt.context)
        if asked is None or (attempt.files is None):
            yield attempt
            return
        references = unique(attempt.files.own, attempt.files.earlier)
        project_id = attempt.turn.project_id if attempt.files.of_project else None
        question = attempt.context[asked].content or ""
        with self._engine.connect() as connection:
            parameters = {
                "user_id": attempt.turn.user_id,
                "file_ids": [reference.id for reference in references],
                "project_id": project_id,
                "limit": PROJECT_FILES,
            }
            found = _sort(sql.FILES.all(connection, parameters), references)
            choice = choose_passages(
                connection, attempt.turn.user_id, found.texts, question, self._settings.context_chars
            )
            _record(connection, attempt, _metadata(found, choice))
        with self._images.load(attempt.turn.user_id, found.images) as loaded:
            for image in found.images:
                if image.id in loaded.left_out:
                    found.leave_out(image.id, image.name, loaded.left_out[image.id])
            parts = FileParts(secrets.token_hex(6), _shown(choice), loaded.images, list(_notes(found, choice)))
            context = list(attempt.context)
            context[asked] = replace(context[asked], files=parts)
            prepared = replace(attempt, context=context, metadata=_metadata(found, choice))
            if attempt.turn.tokens_sent is not None:
                sent = sum(len((message.text() or "").encode()) for message in context)
                attempt.turn.tokens_sent = sent // BYTES_PER_TOKEN + 1
            yield prepared


def _record(connection: Connection, attempt: Attempt, metadata: Mapping[str, Any]) -> None:
    """Store the metadata for the process that closes this attempt, if this one ends before it."""
    if not metadata:
        return
    turn = attempt.turn
    value = orjson.dumps({**turn.answer_metadata, **metadata}).decode()
    key = {"user_id": turn.user_id, "turn_id": turn.id, "attempt": turn.attempt}
    RECORD_METADATA.run(connection, {**key, "metadata": value})


def unique(*references: Iterable[FileReference]) -> list[FileReference]:
    """Return the references without repetitions, the first ones first."""
    by_id: dict[UUID, FileReference] = {}
    for reference in (each for group in references for each in group):
        by_id.setdefault(reference.id, reference)
    return list(by_id.values())


def _last_of_user(context: Sequence[ChatMessage]) -> int | None:
    return max((index for index, message in enumerate(context) if message.role == "user"), default=None)


def _sort(rows: Sequence[Row[Any]], references: Sequence[FileReference]) -> _Found:
    """Return the attached files in their order, then the project's."""
    found, by_id = _Found(), {row.id: row for row in rows}
    for reference in references:
        row = by_id.pop(reference.id, None)
        if row is None:
            found.leave_out(reference.id, reference.name, "deleted")
        else:
            _add(found, row, attached=True)
    for row in by_id.values():
        _add(found, row, attached=False)
    return found


def _add(found: _Found, row: Row[Any], *, attached: bool) -> None:
    if row.media_type in IMAGE_TYPES:
        if attached:
            found.images.append(StoredImage(str(row.id), row.name, row.media_type, row.bytes, row.object))
    elif row.state == FileTextState.READY and row.characters:
        found.texts.append(TextFile(row.id, row.name, row.characters, attached))
    else:
        not_ready = row.state in (FileTextState.PENDING, FileTextState.FAILED)
        found.leave_out(row.id, row.name, str(row.state) if not_ready else "no_text")


def _shown(choice: Choice) -> list[ShownFile]:
    return [
        ShownFile(file.name, [Passage(row.ordinal, row.content, row.page) for row in rows])
        for file, rows in choice.passages()
    ]


def _notes(found: _Found, choice: Choice) -> Iterator[str]:
    shown = {file.id for file, _ in choice.passages()}
    if choice.files and not choice.is_complete:
        yield "The files have more text than is shown: the passages were chosen by the words of the message."
    hidden = [(file.name, "budget") for file in choice.files if file.id not in shown]
    every = [*found.left_out.values(), *hidden]
    for name, reason in every[:NOTED_FILES]:
        yield f"The file {quoted(name)} is not shown: {_REASONS[reason]}."
    if len(every) > NOTED_FILES:
        yield f"{len(every) - NOTED_FILES} more files are not shown."


def _metadata(found: _Found, choice: Choice) -> Mapping[str, Any]:
    """Return what the answer's metadata says of the files."""
    metadata: dict[str, Any] = {}
    if citations := [_citation(file, rows) for file, rows in choice.passages()]:
        metadata["citations"] = citations
    if found.left_out:
        metadata["files_left_out"] = [
            {"file_id": file_id, "name": name, "reason": reason}
            for file_id, (name, reason) in list(found.left_out.items())[:NOTED_FILES]
        ]
    return metadata


def _citation(file: TextFile, rows: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "file_id": str(file.id),
        "name": file.name,
        "passages": [row.ordinal for row in rows],
        "pages": sorted({row.page for row in rows if row.page is not None}),
        "characters": sum(len(row.content) for row in rows),
    }
