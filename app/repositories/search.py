"""SQL of search: writing the terms of conversations, and finding conversations by them.

`conversation_search` has one row a conversation: the terms of its title, and what the documents were written from.
`search_documents` has the terms of its messages, a row for each range.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, and_, cast, func, literal, not_, or_, select, union_all
from sqlalchemy.dialects.postgresql import TSQUERY

from app.models import Conversation, ConversationSearch, SearchDocument
from app.repositories.search_state import RULES, SEARCH_ROW, STALE_DOCUMENT
from app.repositories.statement import Statement

# The foreign keys that a document of a deleted conversation violates.
FOREIGN_KEYS = frozenset({"fk_conversation_search_conversations", "fk_search_documents_conversations"})

# A stale conversation, and its newest document, which grows with the next messages. No row: fresh, or deleted.
STATE = Statement(
    "search.state",
    f"""
SELECT c.title, c.storage, c.next_position, s.rules, s.indexed_position, s.indexed_title,
       newest.first_position, newest.first_character
  FROM conversations AS c
  LEFT JOIN conversation_search AS s ON s.user_id = c.user_id AND s.conversation_id = c.id
  LEFT JOIN LATERAL (SELECT first_position, first_character FROM search_documents
                      WHERE user_id = c.user_id AND conversation_id = c.id
                      ORDER BY first_position DESC, first_character DESC LIMIT 1) AS newest ON true
 WHERE c.user_id = %(user_id)s AND c.id = %(conversation_id)s AND {STALE_DOCUMENT}""",
)

# The next messages of a live conversation, up to about %(bytes)s bytes; at least one.
MESSAGES = Statement(
    "search.messages",
    """
SELECT position, content
  FROM (SELECT position, content,
               sum(coalesce(octet_length(content), 0)) OVER (ORDER BY position)
                   - coalesce(octet_length(content), 0) AS before
          FROM (SELECT position, content FROM messages
                 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s AND position > %(after)s
                 ORDER BY position LIMIT %(messages)s) AS next) AS measured
 WHERE before < %(bytes)s ORDER BY position""",
)

# Documents, each written once: one that another process wrote from more messages stays.
WRITE_DOCUMENTS = Statement(
    "search.write_documents",
    """
INSERT INTO search_documents AS written (user_id, conversation_id, first_position, first_character, last_position,
                                         document)
SELECT %(user_id)s, %(conversation_id)s, *
  FROM unnest(%(first_positions)s::integer[], %(first_characters)s::integer[], %(last_positions)s::integer[],
              %(documents)s::tsvector[])
ON CONFLICT (user_id, conversation_id, first_position, first_character) DO UPDATE
   SET last_position = excluded.last_position, document = excluded.document
 WHERE written.last_position <= excluded.last_position""",
)

# The title's terms, and how far the messages are indexed.
WRITE_STATE = Statement(
    "search.write_state",
    f"""
INSERT INTO conversation_search AS written (user_id, conversation_id, document, indexed_title, indexed_position, rules)
VALUES (%(user_id)s, %(conversation_id)s, %(document)s::tsvector, %(title)s, %(position)s, {RULES})
ON CONFLICT (user_id, conversation_id) DO UPDATE
   SET document = excluded.document, indexed_title = excluded.indexed_title,
       indexed_position = excluded.indexed_position, rules = excluded.rules, updated_at = now()
 WHERE written.rules <> excluded.rules OR written.indexed_position <= excluded.indexed_position
RETURNING conversation_id""",
)

# Documents of other rules, whose ranges are others too.
DELETE_DOCUMENTS = Statement(
    "search.delete_documents",
    """DELETE FROM search_documents WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s""",
)

# The stale ones among the next %(batch)s conversations after a key, and the last, from which to continue. All of them
# are read, by both primary keys: an index on the time of the last message would cost every turn. The LATERAL keeps
# PostgreSQL from reading all documents for each batch.
STALE = Statement(
    "search.stale",
    f"""
WITH c AS (SELECT user_id, id, title, next_position, storage FROM conversations
            WHERE (user_id, id) > (%(user_id)s, %(conversation_id)s) ORDER BY user_id, id LIMIT %(batch)s),
last AS (SELECT user_id, id FROM c ORDER BY user_id DESC, id DESC LIMIT 1)
SELECT c.user_id, c.id AS conversation_id, {STALE_DOCUMENT} AS stale, (SELECT count(*) FROM c) AS examined
  FROM c LEFT JOIN LATERAL ({SEARCH_ROW}) AS s ON true
 WHERE {STALE_DOCUMENT} OR (c.user_id, c.id) = (SELECT user_id, id FROM last)
 ORDER BY c.user_id, c.id""",
)

# The best document of each of these conversations for any of the terms.
BEST_DOCUMENTS = Statement(
    "search.best_documents",
    """
SELECT DISTINCT ON (conversation_id) conversation_id, first_position, first_character, last_position
  FROM search_documents
 WHERE user_id = %(user_id)s AND conversation_id = ANY (%(conversation_ids)s::uuid[])
   AND document @@ %(tsquery)s::tsquery
 ORDER BY conversation_id, ts_rank(document, %(tsquery)s::tsquery) DESC, first_position DESC, first_character DESC""",
)

# The messages of these ranges, each cut to %(characters)s characters from where its range begins.
RANGE_MESSAGES = Statement(
    "search.range_messages",
    """
SELECT m.conversation_id, m.position,
       substr(m.content, CASE m.position WHEN r.first_position THEN r.first_character ELSE 0 END + 1,
              %(characters)s) AS content
  FROM unnest(%(conversation_ids)s::uuid[], %(first_positions)s::integer[], %(first_characters)s::integer[],
              %(last_positions)s::integer[]) AS r(conversation_id, first_position, first_character, last_position)
  JOIN messages AS m ON m.user_id = %(user_id)s AND m.conversation_id = r.conversation_id
                    AND m.position BETWEEN r.first_position AND r.last_position
 WHERE m.content <> ''
 ORDER BY m.conversation_id, m.position""",
)

Alternative = Sequence[tuple[str, bool]]  # clauses: a tsquery, and whether it must not match


def matching(user_id: UUID, alternatives: Sequence[Alternative]) -> ColumnElement[bool]:
    """Return the condition that one of the alternatives holds for a conversation of the user."""
    return or_(
        literal(False),
        *(and_(*(_holds(user_id, tsquery, excluded) for tsquery, excluded in clauses)) for clauses in alternatives),
    )


def rank(user_id: UUID, tsquery: str) -> ColumnElement[float]:
    """Return how well a conversation matches: the title counts four times as much as its best document."""
    query = cast(literal(tsquery), TSQUERY)
    of_messages = (
        select(func.max(func.ts_rank(SearchDocument.document, query)))
        .where(SearchDocument.user_id == user_id, SearchDocument.conversation_id == Conversation.id)
        .where(SearchDocument.document.op("@@")(query))
        .scalar_subquery()
    )
    of_title = (
        select(func.ts_rank(ConversationSearch.document, query))
        .where(ConversationSearch.user_id == user_id, ConversationSearch.conversation_id == Conversation.id)
        .where(ConversationSearch.document.op("@@")(query))
        .scalar_subquery()
    )
    return cast(func.coalesce(of_messages, 0.0) + 4 * func.coalesce(of_title, 0.0), Float(53))


def _holds(user_id: UUID, tsquery: str, excluded: bool) -> ColumnElement[bool]:
    query: ColumnElement[Any] = cast(literal(tsquery), TSQUERY)
    found = Conversation.id.in_(
        union_all(
            *(
                select(table.conversation_id).where(table.user_id == user_id, table.document.op("@@")(query))
                for table in (ConversationSearch, SearchDocument)
            )
        )
    )
    return not_(found) if excluded else found
