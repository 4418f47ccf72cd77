"""Projects: the chatbots of a user, each with a provider of the operator."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.errors import InvalidInput, NotFound, UserHeld
from app.models import Project
from app.repositories import projects
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session


@dataclass(frozen=True, slots=True)
class ProviderRules:
    """The providers that a project may name, those to which its files may be copied, and the default."""

    names: Collection[str]
    with_files: Collection[str]
    default: str


def missing() -> NotFound:
    """Return the error for a project that does not exist or belongs to another user."""
    return NotFound("There is no such project.")


def page(user_id: UUID, *, after: tuple[UUID] | None = None, limit: int) -> Sequence[Project]:
    """Return a page, newest first, and one item more if there is a next page."""
    with autocommit_session() as session:
        return projects.page(session, user_id, after=after[0] if after else None, limit=limit + 1)


def create(user_id: UUID, *, providers: ProviderRules, max_bytes: int = 0, **values: Any) -> Project:
    """Create a project. `max_bytes` is USER_MAX_BYTES.

    Raises `InvalidInput` for what `providers` does not allow, and `StorageLimitReached`.
    """
    _check_provider(values, providers.names)
    if values.get("provider_files"):
        _check_copies(values.get("provider"), providers)
    with autocommit_session() as session:
        check_limit(session.connection(), user_id, max_bytes)
        return projects.add(session, user_id, values)


def get(user_id: UUID, project_id: UUID) -> Project:
    """Return a project. Raises `NotFound`."""
    with autocommit_session() as session:
        project = projects.get(session, user_id, project_id)
    if project is None:
        raise missing()
    return project


def change(user_id: UUID, project_id: UUID, *, providers: ProviderRules, **values: Any) -> Project:
    """Change the given fields; `settings` are replaced.

    Raises `NotFound`, and `InvalidInput` for what `providers` does not allow.
    """
    if not values:
        return get(user_id, project_id)
    _check_provider(values, providers.names)
    if values.get("provider_files"):
        provider = values["provider"] if "provider" in values else get(user_id, project_id).provider
        _check_copies(provider, providers)
    with autocommit_session() as session:
        changed = projects.change(session, user_id, project_id, values)
    if changed is None:
        raise missing()
    return changed


def delete(user_id: UUID, project_id: UUID) -> None:
    """Delete a project, its prompts and its files; its conversations remain without a project.

    Raises `NotFound`, and `UserHeld` if it has files and a legal hold is on one of the user's conversations.
    """
    with autocommit_session() as session:
        removed = projects.remove(session, user_id, project_id)
    if removed is None:
        get(user_id, project_id)
        raise UserHeld("A legal hold keeps the files of this project.")


def _check_copies(provider: str | None, rules: ProviderRules) -> None:
    """Raise `InvalidInput` unless the operator allows copies of files at the provider of the project."""
    provider = provider or rules.default
    if provider not in rules.with_files:
        allowed = f"; it allows {', '.join(rules.with_files)}" if rules.with_files else ""
        complaint = f"The operator of this server does not allow copies of files at the provider {provider}{allowed}."
        raise InvalidInput(complaint, fields={"provider_files": [complaint]})


def _check_provider(values: dict[str, Any], names: Collection[str]) -> None:
    if values.get("provider") is not None and values["provider"] not in names:
        raise InvalidInput(fields={"provider": [f"This server has no such provider; it has {', '.join(names)}."]})
