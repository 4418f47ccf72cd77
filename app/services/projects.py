"""Projects: an owner's chatbots, each a choice among the operator's providers."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.errors import InvalidInput, NotFound
from app.models import Project
from app.repositories import projects
from app.services.container import services
from app.services.transactions import statements


def missing() -> NotFound:
    """The one answer for a project that is absent or somebody else's."""
    return NotFound("There is no such project.")


def page(user_id: UUID, *, after: tuple[UUID] | None = None, limit: int) -> Sequence[Project]:
    """A page, newest first, and one more where there is one."""
    with statements() as session:
        return projects.page(session, user_id, after=after[0] if after else None, limit=limit + 1)


def create(user_id: UUID, **values: Any) -> Project:
    """A new project. Raises `InvalidInput` for a provider that this server does not have."""
    _check_provider(values)
    with statements() as session:
        return projects.add(session, user_id, values)


def get(user_id: UUID, project_id: UUID) -> Project:
    """That project. Raises `NotFound`."""
    with statements() as session:
        found = projects.get(session, user_id, project_id)
    if found is None:
        raise missing()
    return found


def change(user_id: UUID, project_id: UUID, **values: Any) -> Project:
    """Set any of its fields; `settings` are replaced whole. Raises `NotFound`, `InvalidInput` for its provider."""
    if not values:
        return get(user_id, project_id)
    _check_provider(values)
    with statements() as session:
        changed = projects.change(session, user_id, project_id, values)
    if changed is None:
        raise missing()
    return changed


def delete(user_id: UUID, project_id: UUID) -> None:
    """Delete it with its prompts; its conversations stay, without a project. Raises `NotFound`."""
    with statements() as session:
        removed = projects.remove(session, user_id, project_id)
    if removed is None:
        raise missing()


def _check_provider(values: dict[str, Any]) -> None:
    names = services().providers.names
    if values.get("provider") is not None and values["provider"] not in names:
        raise InvalidInput(fields={"provider": [f"This server has no such provider; it has {', '.join(names)}."]})
