"""State of the search index in tests, which share a database."""

from sqlalchemy import Engine, text

from app.repositories.search_state import RULES


def mark_all_indexed(engine: Engine) -> None:
    """Mark every conversation as indexed: to index what other tests left takes a sweep minutes."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO conversation_search (user_id, conversation_id, document, indexed_title, indexed_position,"
                " rules) SELECT user_id, id, '', title, next_position - 1, :rules FROM conversations"
                " ON CONFLICT (user_id, conversation_id) DO UPDATE SET indexed_title = excluded.indexed_title,"
                " indexed_position = excluded.indexed_position, rules = excluded.rules"
            ),
            {"rules": RULES},
        )
