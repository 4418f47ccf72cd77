"""Versions of prompts, and drafts: each saved change of a content is a version, a draft only when it is published.

The prompt's row is locked while its content changes, so that concurrent changes get numbers one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound
from app.models import Prompt
from app.repositories import prompt_versions, prompts
from app.services.prompt_variables import check_variables
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session, transaction

VERSIONS_PER_PROMPT = 50  # the newest ones, the current one included

# The fields whose change is more than an update of the row.
CONTENT_FIELDS = frozenset({"content", "variables", "draft"})


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a prompt's content. `created_at` is when it became the current one."""

    number: int
    content: str
    variables: bool
    created_at: datetime
    current: bool

    @property
    def characters(self) -> int:
        """Length of the content."""
        return len(self.content)


def missing_prompt() -> NotFound:
    """Return the error for a prompt that does not exist in this project of the user."""
    return NotFound("There is no such prompt in this project.")


def change_content(user_id: UUID, project_id: UUID, prompt_id: UUID, max_bytes: int, values: dict[str, Any]) -> Prompt:
    """Change a prompt, its content or draft included. Raises `NotFound`, `InvalidInput` and `StorageLimitReached`."""
    with transaction() as session:
        if values.get("content") is not None or values.get("draft") is not None:
            check_limit(session.connection(), user_id, max_bytes)
        current = _lock(session, user_id, project_id, prompt_id)
        if values.get("variables", current.variables):
            for field in ("content", "draft"):
                check_variables(field, values.get(field, getattr(current, field)))
        return _store(session, current, values)


def publish(user_id: UUID, project_id: UUID, prompt_id: UUID) -> Prompt:
    """Make the draft the content. Raises `NotFound`, `InvalidInput`, and `Conflict` if there is no draft."""
    with transaction() as session:
        current = _lock(session, user_id, project_id, prompt_id)
        if current.draft is None:
            raise Conflict("This prompt has no draft; save one first.")
        if current.variables:
            check_variables("draft", current.draft)
        return _store(session, current, {"content": current.draft, "draft": None})


def restore(user_id: UUID, project_id: UUID, prompt_id: UUID, number: int, *, max_bytes: int = 0) -> Prompt:
    """Make the content of an earlier version the content again, as a new version; the draft stays.

    `max_bytes` is USER_MAX_BYTES. Raises `NotFound`, `InvalidInput` and `StorageLimitReached`.
    """
    with transaction() as session:
        check_limit(session.connection(), user_id, max_bytes)
        current = _lock(session, user_id, project_id, prompt_id)
        values = {}
        if number != current.version:
            version = prompt_versions.get(session, user_id, prompt_id, number)
            if version is None:
                raise _missing_version()
            if version.variables:
                check_variables("content", version.content)  # saved when the list of names was another one
            values = {"content": version.content, "variables": version.variables}
        return _store(session, current, values)


def page(
    user_id: UUID, project_id: UUID, prompt_id: UUID, *, after: tuple[int] | None = None, limit: int
) -> list[Version]:
    """Return a page, newest first, and one item more if there is a next page. Raises `NotFound`."""
    with autocommit_session() as session:
        prompt = prompts.get(session, user_id, project_id, prompt_id)
        if prompt is None:
            raise missing_prompt()
        newest = [_current(prompt)] if after is None or prompt.version < after[0] else []
        below = prompt.version if after is None else min(after[0], prompt.version)
        earlier = prompt_versions.page(session, user_id, prompt_id, below=below, limit=limit + 1)
    return [*newest, *_earlier(earlier)][: limit + 1]


def get(user_id: UUID, project_id: UUID, prompt_id: UUID, number: int) -> Version:
    """Return a version. Raises `NotFound`."""
    with autocommit_session() as session:
        prompt = prompts.get(session, user_id, project_id, prompt_id)
        if prompt is None:
            raise missing_prompt()
        if prompt.version == number:
            return _current(prompt)
        version = prompt_versions.get(session, user_id, prompt_id, number)
    if version is None:
        raise _missing_version()
    return _earlier([version])[0]


def _lock(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID) -> Prompt:
    prompt = prompts.get(session, user_id, project_id, prompt_id, lock=True)
    if prompt is None:
        raise missing_prompt()
    return prompt


def _store(session: Session, current: Prompt, values: dict[str, Any]) -> Prompt:
    """Change the locked prompt; a new content, or another use of variables, is a new version."""
    wanted = (values.get("content", current.content), values.get("variables", current.variables))
    if wanted != (current.content, current.variables):
        number = current.version + 1
        prompt_versions.keep_current(session, current.user_id, current.id)
        prompt_versions.purge(session, current.user_id, current.id, up_to=number - VERSIONS_PER_PROMPT)
        values = {**values, "version": number}
    changed = {field: value for field, value in values.items() if getattr(current, field) != value}
    if changed:
        prompts.change(session, current.user_id, current.project_id, current.id, changed)  # refreshes `current`
    return current


def _current(prompt: Prompt) -> Version:
    return Version(prompt.version, prompt.content, prompt.variables, prompt.version_at, current=True)


def _earlier(rows: Sequence[Any]) -> list[Version]:
    return [Version(row.number, row.content, row.variables, row.created_at, current=False) for row in rows]


def _missing_version() -> NotFound:
    return NotFound("There is no such version of this prompt; only the newest ones are kept.")
