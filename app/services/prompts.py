"""The system prompts of a project, which start the context of each of its turns."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.errors import Conflict
from app.models import Prompt
from app.repositories import projects, prompts
from app.services.projects import missing as missing_project
from app.services.prompt_variables import check_variables
from app.services.prompt_versions import CONTENT_FIELDS, change_content, missing_prompt
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session, transaction

PROMPTS_PER_PROJECT = 50  # all of them are sent with each turn
LAST_POSITION = 10_000


def page(user_id: UUID, project_id: UUID, *, after: tuple[int, UUID] | None = None, limit: int) -> Sequence[Prompt]:
    """Return a page in the order of the context, and one item more if there is a next page. Raises `NotFound`."""
    with autocommit_session() as session:
        items = prompts.page(session, user_id, project_id, after=after, limit=limit + 1)
    if items is None:
        raise missing_project()
    return items


def create(user_id: UUID, project_id: UUID, *, max_bytes: int = 0, **values: Any) -> Prompt:
    """Create a prompt, after the last one unless `position` is given. `max_bytes` is USER_MAX_BYTES.

    Locks the project's row, so that concurrent calls cannot exceed the maximum or get the same position. Raises
    `NotFound`, `StorageLimitReached`, `InvalidInput` for a variable, and `Conflict` if the project has the maximum.
    """
    if values.get("variables"):
        for field in ("content", "draft"):
            check_variables(field, values.get(field))
    with transaction() as session:
        check_limit(session.connection(), user_id, max_bytes)
        if projects.lock(session, user_id, project_id) is None:
            raise missing_project()
        count, last = prompts.count_and_last(session, user_id, project_id)
        if count >= PROMPTS_PER_PROJECT:
            raise Conflict(f"A project has at most {PROMPTS_PER_PROJECT} prompts; delete or change one of them.")
        next_position = 0 if last is None else min(last + 1, LAST_POSITION)
        return prompts.add(session, user_id, project_id, {"position": next_position, **values})


def get(user_id: UUID, project_id: UUID, prompt_id: UUID) -> Prompt:
    """Return a prompt. Raises `NotFound`."""
    with autocommit_session() as session:
        prompt = prompts.get(session, user_id, project_id, prompt_id)
    if prompt is None:
        raise missing_prompt()
    return prompt


def change(user_id: UUID, project_id: UUID, prompt_id: UUID, *, max_bytes: int = 0, **values: Any) -> Prompt:
    """Change the given fields of a prompt. `max_bytes` is USER_MAX_BYTES.

    Raises `NotFound`, and as `change_content` if the content, the draft or the variables change.
    """
    if not values:
        return get(user_id, project_id, prompt_id)
    if values.keys() & CONTENT_FIELDS:
        return change_content(user_id, project_id, prompt_id, max_bytes, values)
    with autocommit_session() as session:
        changed = prompts.change(session, user_id, project_id, prompt_id, values)
    if changed is None:
        raise missing_prompt()
    return changed


def delete(user_id: UUID, project_id: UUID, prompt_id: UUID) -> None:
    """Delete a prompt. Raises `NotFound`."""
    with autocommit_session() as session:
        removed = prompts.remove(session, user_id, project_id, prompt_id)
    if removed is None:
        raise missing_prompt()
