"""The SQL of search: what is written about a conversation, and how it is found by it.

The configuration is `simple`: words as they are, in small letters. People write in languages that we do not know, and
the stems and stop words of a wrong one lose what they look for.
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, literal_column

from app.models import Conversation, ConversationSearch
from app.repositories.statement import Statement

FOREIGN_KEY = "fk_conversation_search_conversations"  # what a document of a deleted conversation violates

# PostgreSQL takes a path, a host or a hyphenated word for one word, and tags for none, so that `app/errors.py` would
# not be found by "errors"; and its parser needs minutes for "a_a_a_...". So these separate words, here and in a query.
_SEPARATORS = "-+._/@<&"


def _words(text: str) -> str:
    for character in _SEPARATORS:
        text = f"replace({text}, '{character}', ' ')"
    return f"to_tsvector('simple', {text})"


# Whether a document `s` (a row of nulls if there is none) no longer says what the conversation `c` says. The messages
# of a bundled one have left the table.
STALE_DOCUMENT = """(s.user_id IS NULL OR s.indexed_title IS DISTINCT FROM c.title
             OR (c.storage = 'live' AND s.indexed_position < c.next_position - 1))"""

# Write the document, whole, unless it is fresh; no row then, nor where the conversation is gone. Of the newest
# %(messages)s messages those are read that begin within %(characters)s bytes of the end, and of these so many
# characters. A bundled conversation keeps the words of its messages: all that have the weight B.
WRITE = Statement(
    "search.write",
    f"""
INSERT INTO conversation_search AS written (user_id, conversation_id, document, indexed_title, indexed_position)
SELECT c.user_id, c.id,
       CASE c.storage WHEN 'live'
            THEN setweight({_words("coalesce(body.text, '')")}, 'B')
            ELSE coalesce(ts_filter(s.document, '{{b}}'), '') END
       || setweight({_words("coalesce(c.title, '')")}, 'A'),
       c.title,
       CASE c.storage WHEN 'live' THEN c.next_position - 1 ELSE coalesce(s.indexed_position, 0) END
  FROM conversations AS c
  LEFT JOIN conversation_search AS s ON s.user_id = c.user_id AND s.conversation_id = c.id
  CROSS JOIN LATERAL (
      SELECT left(string_agg(content, E'\\n' ORDER BY position DESC), %(characters)s) AS text
        FROM (SELECT position, content,
                     sum(octet_length(content)) OVER (ORDER BY position DESC) - octet_length(content) AS before
                FROM (SELECT position, content FROM messages
                       WHERE user_id = c.user_id AND conversation_id = c.id AND c.storage = 'live'
                       ORDER BY position DESC LIMIT %(messages)s) AS newest
               WHERE content <> '') AS measured
       WHERE before < %(characters)s) AS body
 WHERE c.user_id = %(user_id)s AND c.id = %(conversation_id)s AND {STALE_DOCUMENT}
ON CONFLICT (user_id, conversation_id) DO UPDATE
   SET document = excluded.document, indexed_title = excluded.indexed_title,
       indexed_position = excluded.indexed_position, updated_at = now()
 WHERE written.indexed_position <= excluded.indexed_position
RETURNING conversation_id""",
)

# Of the next %(batch)s conversations after that key the stale ones, and the last, which says where to go on. All of
# them are looked at, by both primary keys: an index by the time of the last message would cost every turn. (The LATERAL
# keeps PostgreSQL from reading all documents for each batch.)
STALE = Statement(
    "search.stale",
    f"""
WITH c AS (SELECT user_id, id, title, next_position, storage FROM conversations
            WHERE (user_id, id) > (%(user_id)s, %(conversation_id)s) ORDER BY user_id, id LIMIT %(batch)s),
last AS (SELECT user_id, id FROM c ORDER BY user_id DESC, id DESC LIMIT 1)
SELECT c.user_id, c.id AS conversation_id, {STALE_DOCUMENT} AS stale, (SELECT count(*) FROM c) AS seen
  FROM c LEFT JOIN LATERAL (SELECT user_id, indexed_title, indexed_position FROM conversation_search
                             WHERE user_id = c.user_id AND conversation_id = c.id LIMIT 1) AS s ON true
 WHERE {STALE_DOCUMENT} OR (c.user_id, c.id) = (SELECT user_id, id FROM last)
 ORDER BY c.user_id, c.id""",
)


_SIMPLE: ColumnElement[Any] = literal_column("'simple'::regconfig")
_TOKEN = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)')
_TO_SPACES = str.maketrans(dict.fromkeys(_SEPARATORS, " "))


@dataclass(frozen=True, slots=True)
class Words:
    """What somebody looks for: `query` as websearch_to_tsquery reads it, and a last word that may go on."""

    query: str
    beginning: str | None = None


def words_of(text: str) -> Words:
    """Read `text` as people write to search engines: words, "phrases", -without, or.

    The last word counts as the beginning of one, unless it is a single character, a phrase, ruled out, or one of two
    alternatives.
    """
    terms: list[str] = []
    plain = False  # whether the last term is a word that is looked for by itself
    for token in _TOKEN.finditer(text):
        minus, phrase, word = token["minus"], token["phrase"], token["word"] or ""
        pieces = (phrase or word).translate(_TO_SPACES).split()
        if not pieces:
            continue
        if phrase is not None or word.startswith("-"):
            terms.append(f'{"-" if minus or word else ""}"{" ".join(pieces)}"')
            plain = False
        else:
            alternative = len(pieces) == 1 and bool(terms) and terms[-1].lower() == "or"
            plain = not alternative and pieces[-1].lower() != "or"
            terms += pieces
    if plain and terms[-1].isalnum() and len(terms[-1]) > 1 and not text[-1].isspace():
        return Words(" ".join(terms[:-1]), terms[-1])
    return Words(" ".join(terms))


def matching(user_id: UUID, words: Words) -> ColumnElement[bool]:
    """The condition that the user's conversation is found by these words; where they are none, nothing is."""
    query: ColumnElement[Any] = func.websearch_to_tsquery(_SIMPLE, words.query)
    if words.beginning is not None:  # letters and digits only, so there is nothing in it that to_tsquery could misread
        query = query.op("&&")(func.to_tsquery(_SIMPLE, f"{words.beginning}:*"))
    return exists().where(
        ConversationSearch.user_id == user_id,
        ConversationSearch.conversation_id == Conversation.id,
        ConversationSearch.document.op("@@")(query),
    )
