"""The system prompts of a project: what opens the context of each of its turns."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.errors import Conflict, NotFound
from app.models import Prompt
from app.repositories import projects, prompts
from app.services.projects import missing as missing_project
from app.services.transactions import statements, transaction

PROMPTS_PER_PROJECT = 50  # they are all sent with every turn
LAST_POSITION = 10_000


def _missing() -> NotFound:
    return NotFound("There is no such prompt in this project.")


def page(user_id: UUID, project_id: UUID, *, after: tuple[int, UUID] | None = None, limit: int) -> Sequence[Prompt]:
    """A page in the order in which they are told, and one more where there is one. Raises `NotFound`."""
    with statements() as session:
        found = prompts.page(session, user_id, project_id, after=after, limit=limit + 1)
    if found is None:
        raise missing_project()
    return found


def create(user_id: UUID, project_id: UUID, **values: Any) -> Prompt:
    """A new prompt, the last one unless `position` says otherwise.

    Raises `NotFound`, and `Conflict` where the project is full: its row is locked, so that two at once cannot overfill
    it nor take the same place.
    """
    with transaction() as session:
        if projects.lock(session, user_id, project_id) is None:
            raise missing_project()
        count, last = prompts.tally(session, user_id, project_id)
        if count >= PROMPTS_PER_PROJECT:
            raise Conflict(f"A project has at most {PROMPTS_PER_PROJECT} prompts; delete or change one of them.")
        after_the_last = 0 if last is None else min(last + 1, LAST_POSITION)
        return prompts.add(session, user_id, project_id, {"position": after_the_last, **values})


def get(user_id: UUID, project_id: UUID, prompt_id: UUID) -> Prompt:
    """That prompt. Raises `NotFound`."""
    with statements() as session:
        found = prompts.get(session, user_id, project_id, prompt_id)
    if found is None:
        raise _missing()
    return found


def change(user_id: UUID, project_id: UUID, prompt_id: UUID, **values: Any) -> Prompt:
    """Set any of its fields. Raises `NotFound`."""
    if not values:
        return get(user_id, project_id, prompt_id)
    with statements() as session:
        changed = prompts.change(session, user_id, project_id, prompt_id, values)
    if changed is None:
        raise _missing()
    return changed


def delete(user_id: UUID, project_id: UUID, prompt_id: UUID) -> None:
    """Delete it. Raises `NotFound`."""
    with statements() as session:
        removed = prompts.remove(session, user_id, project_id, prompt_id)
    if removed is None:
        raise _missing()
