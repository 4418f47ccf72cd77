"""Search hits: where in a conversation the words are, with a snippet of the text around them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.enums import ConversationStorage
from app.errors import ArchiveDamaged
from app.models import Conversation
from app.outbound.yielding import Yielder
from app.repositories import search as sql
from app.services import archives
from app.services.search_query import SearchQuery
from app.services.search_words import cut, fold

SNIPPET_CHARS = 200
_BEFORE_CHARS = 60  # of a snippet, before its first match
_SLICE_SECONDS = 0.002
_TERMS_PER_STEP = 100
_RANGE_CHARS = 20_000  # of one message that are read; a range of terms is seldom longer


@dataclass(frozen=True, slots=True)
class SnippetPart:
    """A piece of a snippet; `match` says whether it is one of the words."""

    text: str
    match: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """The message of a conversation that matches best, and its text around the words."""

    conversation_id: UUID
    position: int
    snippet: tuple[SnippetPart, ...]


def find_hits(
    connection: Connection, user_id: UUID, conversations: Sequence[Conversation], query: SearchQuery
) -> dict[UUID, Hit]:
    """Return the hit of each conversation that has one: none where only the title matches.

    Reads the messages of one range a conversation. A bundle that cannot be read gives no hit.
    """
    if not conversations or not query.wanted:
        return {}
    parameters = {
        "user_id": user_id,
        "conversation_ids": [conversation.id for conversation in conversations],
        "tsquery": " | ".join(clause.tsquery for clause in query.wanted),
    }
    best = sql.BEST_DOCUMENTS.all(connection, parameters)
    bundled = {each.id for each in conversations if each.storage == ConversationStorage.BUNDLED}
    texts = _live_messages(connection, user_id, [row for row in best if row.conversation_id not in bundled])
    for row in best:
        if row.conversation_id in bundled:
            texts[row.conversation_id] = _bundled_messages(connection, user_id, row)
    hits = (_best(conversation_id, messages, query) for conversation_id, messages in texts.items())
    return {hit.conversation_id: hit for hit in hits if hit is not None}


def _live_messages(
    connection: Connection, user_id: UUID, best: Sequence[Row[Any]]
) -> dict[UUID, list[tuple[int, str]]]:
    texts: dict[UUID, list[tuple[int, str]]] = defaultdict(list)
    if best:
        parameters = {
            "user_id": user_id,
            "conversation_ids": [row.conversation_id for row in best],
            "first_positions": [row.first_position for row in best],
            "first_characters": [row.first_character for row in best],
            "last_positions": [row.last_position for row in best],
            "characters": _RANGE_CHARS,
        }
        for message in sql.RANGE_MESSAGES.all(connection, parameters):
            texts[message.conversation_id].append((message.position, message.content))
    return texts


def _bundled_messages(connection: Connection, user_id: UUID, row: Row[Any]) -> list[tuple[int, str]]:
    bundle = archives.find(connection, user_id, row.conversation_id)
    if bundle is None:
        return []
    limit = row.last_position - row.first_position + 1
    try:
        messages = archives.page(bundle, order="asc", after=row.first_position - 1, limit=limit)
    except ArchiveDamaged:  # logged; the conversation is found all the same
        return []
    start = {row.first_position: row.first_character}
    return [
        (message.position, message.content[start.get(message.position, 0) :][:_RANGE_CHARS])
        for message in messages
        if message.content and message.position <= row.last_position
    ]


def _best(conversation_id: UUID, messages: Iterable[tuple[int, str]], query: SearchQuery) -> Hit | None:
    """Return the hit in the message with the most different words, the newest of several.

    Cutting is slow, and a term is nearly always a part of the folded text: so the messages are ordered by that, and cut
    only until one has a match.
    """
    wanted = frozenset().union(*(clause.terms for clause in query.wanted))
    prefixes = tuple(clause.prefix for clause in query.wanted if clause.prefix is not None)
    candidates = []
    for position, text in messages:
        folded = fold(text)
        score = sum(term in folded for term in wanted)
        if score:
            candidates.append((score, position, text))
    for _, position, text in sorted(candidates, reverse=True):
        places = list(_places(text, wanted, prefixes))
        if places:
            return Hit(conversation_id, position, snippet(text, places))
    return None


def _places(text: str, wanted: Collection[str], prefixes: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yield where the wanted terms are in `text`. Cutting a long text takes 0.2 s, so other greenlets run in slices."""
    yielder = Yielder(_SLICE_SECONDS)
    for number, term in enumerate(cut(text)):
        if term.text in wanted or term.text.startswith(prefixes):
            yield term.start, term.end
        if number % _TERMS_PER_STEP == 0:
            yielder.step()


def snippet(text: str, places: Iterable[tuple[int, int]]) -> tuple[SnippetPart, ...]:
    """Return up to `SNIPPET_CHARS` characters of `text` around the first place, the places marked as matches."""
    merged = _merged(places)
    start = max(0, merged[0][0] - _BEFORE_CHARS)
    end = min(len(text), start + SNIPPET_CHARS)
    parts, at = [SnippetPart("…", match=False)] if start else [], start
    for begin, finish in merged:
        if begin >= end:
            break
        parts += [SnippetPart(text[at:begin], match=False), SnippetPart(text[begin : min(finish, end)], match=True)]
        at = min(finish, end)
    parts.append(SnippetPart(text[at:end] + ("…" if end < len(text) else ""), match=False))
    return tuple(part for part in parts if part.text)


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the places without overlaps, in order: pairs of characters overlap, and so do parts of identifiers."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
