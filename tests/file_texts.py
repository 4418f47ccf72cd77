"""Extracted texts of files for tests, written as the extraction writes them."""

from collections.abc import Sequence

from sqlalchemy import Engine, text

from app.services.search_documents import text_tsvector
from tests.factories import LoggedInUser


def store_text(
    engine: Engine, user: LoggedInUser, file_id: str, passages: Sequence[str], page: int | None = None
) -> None:
    """Make these the passages of a file. With `page`, the first is on that page and each on the next one."""
    key = {"user_id": user.id, "file_id": file_id}
    set_state(engine, user, file_id, "ready", characters=sum(map(len, passages)))
    start = 0
    with engine.begin() as connection:
        for ordinal, content in enumerate(passages, 1):
            values = {"ordinal": ordinal, "start": start, "content": content, "search": text_tsvector(content)}
            connection.execute(
                text(
                    'INSERT INTO file_passages (user_id, file_id, ordinal, "start", page, content, search) VALUES'
                    " (:user_id, :file_id, :ordinal, :start, :page, :content, CAST(:search AS tsvector))"
                ),
                {**key, **values, "page": None if page is None else page + ordinal - 1},
            )
            start += len(content)


def set_state(engine: Engine, user: LoggedInUser, file_id: str, state: str, characters: int = 0) -> None:
    """Set the state of a file's text."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO file_texts (user_id, file_id, state, reason, characters)"
                " VALUES (:user_id, :file_id, :state, :reason, :characters)"
                " ON CONFLICT (user_id, file_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
                " characters = excluded.characters"
            ),
            {
                "user_id": user.id,
                "file_id": file_id,
                "state": state,
                "reason": "damaged" if state == "failed" else None,
                "characters": characters,
            },
        )
