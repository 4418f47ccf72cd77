"""The tools and the resources of `/mcp`, which an application may extend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast
from uuid import UUID

from flask import Flask, current_app
from mcp_types import BlobResourceContents, Resource, ResourceTemplate, TextResourceContents

from app.tools.tool import Tool

_EXTENSION = "parley.mcp_offer"  # in `Flask.extensions`

Contents = TextResourceContents | BlobResourceContents


class ResourceSource(Protocol):
    """Resources of one user."""

    def page(self, user_id: UUID, cursor: str | None) -> tuple[Sequence[Resource], str | None]:
        """Return a page, and the cursor of the next one if there is one. Raises `InvalidInput` for another cursor."""
        ...

    def templates(self) -> Sequence[ResourceTemplate]:
        """Return the forms of the URIs that can be read."""
        ...

    def read(self, user_id: UUID, uri: str) -> Sequence[Contents]:
        """Return the contents of a resource. Raises `NotFound` if the user has no such resource."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that `tools` returns for a user, always in the same order, and the resources."""

    tools: Callable[[UUID], Sequence[Tool]]
    resources: ResourceSource


def init_app(flask_app: Flask, offer: Offer) -> None:
    """Store the offer of an application."""
    flask_app.extensions[_EXTENSION] = offer


def current_offer() -> Offer:
    """Return the offer of the current application."""
    return cast(Offer, current_app.extensions[_EXTENSION])
