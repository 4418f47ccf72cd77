"""What the API is told and should then show: conversations and turns as their owners remember them."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from app.services.titles import preview_of, title_of
from tests.factories import Account

HISTORY = 20  # messages that the provider is shown beside the new one

_moments = count(1)


@dataclass(eq=False)
class Known:
    """A conversation; `messages` are (role, content, how it broke off). `touched` orders the list."""

    owner: Account
    id: str = ""
    title: str | None = None
    status: str = "active"
    metadata: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, str, str | None]] = field(default_factory=list)
    touched: int = 0
    deleted: bool = False

    def touch(self) -> None:
        """Its newest message came just now."""
        self.touched = next(_moments)

    def question(self, text: str) -> None:
        """Its owner says something."""
        self.title = self.title or title_of(text)
        self.status = "active"
        self.messages.append(("user", text, None))
        self.touch()

    def answer(self, content: str, partial: str | None = None) -> None:
        """The provider answers, or breaks off."""
        self.messages.append(("assistant", content, partial))
        self.touch()

    def shown(self) -> dict[str, Any]:
        """What its owner should see of it."""
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "metadata": self.metadata,
            "message_count": len(self.messages),
            "preview": preview_of(self.messages[-1][1]) if self.messages else None,
        }

    def expected(self, text: str, place: int) -> str:
        """What the provider, who tells how many messages it was shown, says to the message at `place` (from 0)."""
        earlier = self.messages[max(0, place - HISTORY) : place]
        roles = [role for role, _, _ in earlier]
        earlier = earlier[roles.index("user") :] if "user" in roles else []
        return f"{len(earlier) + 1} messages; last: {text}"


@dataclass(eq=False)
class Asked:
    """A request with a key, and what became of its turn. `place` is that of its question (from 0)."""

    owner: Account
    key: str
    body: dict[str, Any]
    conversation: Known
    place: int
    turn_id: str
    status: str
    answer: dict[str, Any] | None = None
    size: int = 0  # of the conversation when the turn had ended
