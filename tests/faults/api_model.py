"""A model of conversations and requests, which predicts what the API returns."""

from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any

from app.services.titles import preview_of, title_of
from tests.factories import LoggedInUser

HISTORY_MESSAGES = 20  # that the provider receives before the new one

_times = count(1)


@dataclass(eq=False)
class ConversationModel:
    """One conversation. `messages` are (role, content, partial reason); `updated` orders lists, newest last."""

    owner: LoggedInUser
    id: str = ""
    title: str | None = None
    status: str = "active"
    metadata: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, str, str | None]] = field(default_factory=list)
    updated: int = 0
    deleted: bool = False

    def touch(self) -> None:
        """Make it the most recently updated conversation."""
        self.updated = next(_times)

    def add_question(self, text: str) -> None:
        """Add a message of the owner."""
        self.title = self.title or title_of(text)
        self.status = "active"
        self.messages.append(("user", text, None))
        self.touch()

    def add_answer(self, content: str, partial: str | None = None) -> None:
        """Add an answer; `partial` is the reason why it is incomplete."""
        self.messages.append(("assistant", content, partial))
        self.touch()

    def as_json(self) -> dict[str, Any]:
        """Return the fields that the API must return to the owner."""
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "metadata": self.metadata,
            "message_count": len(self.messages),
            "preview": preview_of(self.messages[-1][1]) if self.messages else None,
        }

    def expected_answer(self, text: str, index: int) -> str:
        """Return the echo provider's answer to the message at `index`: the number of messages, and the last one.

        Unanswered messages are merged with the next one.
        """
        sent = [*self.messages[max(0, index - HISTORY_MESSAGES) : index], ("user", text, None)]
        merged = [
            (role, [content for _, content, _ in group]) for role, group in groupby(sent, key=lambda item: item[0])
        ]
        count = len(merged) if merged[0][0] == "user" else len(merged) - 1
        last = "\n\n".join(merged[-1][1])
        return f"{count} messages; last: {last}"


@dataclass(eq=False)
class ChatRequestModel:
    """One chat request with a key, and its turn. `index` is that of its question in the messages."""

    owner: LoggedInUser
    key: str
    body: dict[str, Any]
    conversation: ConversationModel
    index: int
    turn_id: str
    status: str
    answer: dict[str, Any] | None = None
    message_count: int = 0  # of the conversation at the end of the turn
