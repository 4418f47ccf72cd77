"""Cursors and envelopes, without a server."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.pagination import IDENTIFIER, LONGEST_CURSOR, MOMENT, POSITION, Pages
from app.api.schemas.conversations import CONVERSATIONS
from app.api.schemas.messages import MESSAGES
from app.api.schemas.projects import PROJECTS
from app.api.schemas.prompts import PROMPTS
from app.errors import InvalidInput

ALL = [CONVERSATIONS, MESSAGES, PROJECTS, PROMPTS]
ID = UUID("01a204a5-5f8f-7070-9a16-e8ff4b130aaf")

any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def cursor_of(value: Any) -> str:
    """Return a forged cursor."""
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_moment_and_id_round_trip(moment: datetime, identifier: UUID) -> None:
    assert CONVERSATIONS.decode(CONVERSATIONS.encode(moment, identifier)) == (moment, identifier)


@given(st.integers(0, 2**31 - 1), st.uuids())
def test_position_and_id_round_trip(position: int, identifier: UUID) -> None:
    assert MESSAGES.decode(MESSAGES.encode(position)) == (position,)
    assert PROMPTS.decode(PROMPTS.encode(position, identifier)) == (position, identifier)
    assert PROJECTS.decode(PROJECTS.encode(identifier)) == (identifier,)


@given(
    st.sampled_from(ALL),
    st.text(max_size=600)
    | st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | any_json.map(cursor_of)
    | st.builds(
        lambda tag, parts: cursor_of([tag, *parts]),
        st.sampled_from(["conversations.1", "messages.1", "projects.1", "prompts.1"]),
        st.lists(any_json | st.just(ID.hex), max_size=3),
    ),
)
def test_arbitrary_cursor_is_decoded_or_refused(pages: Pages, sent: str) -> None:
    """Only cursors that `encode` produces are decoded; all others raise `InvalidInput`."""
    with suppress(InvalidInput):
        assert pages.encode(*pages.decode(sent)) == sent


FORGED: dict[str, Any] = {
    "not base64": "%%%",
    "empty": "",
    "not ASCII": "é",
    "NUL": "\0",
    "no JSON": base64.urlsafe_b64encode(b"hello").decode(),
    "no UTF-8": base64.urlsafe_b64encode(b'["\xff\xfe"]').decode(),
    "an object": cursor_of({"conversations.1": 1}),
    "a number": cursor_of(1),
    "null": cursor_of(None),
    "an empty list": cursor_of([]),
    "no key": cursor_of(["conversations.1"]),
    "too little": cursor_of(["conversations.1", 1]),
    "too much": cursor_of(["conversations.1", 1, ID.hex, 1]),
    "another version": cursor_of(["conversations.2", 1, ID.hex]),
    "a boolean": cursor_of(["conversations.1", True, ID.hex]),
    "a fraction": cursor_of(["conversations.1", 1.5, ID.hex]),
    "a whole fraction": cursor_of(["conversations.1", 1.0, ID.hex]),
    "a list for a moment": cursor_of(["conversations.1", [1], ID.hex]),
    "a naive moment": cursor_of(["conversations.1", "2026-01-01T00:00:00", ID.hex]),
    "infinity": cursor_of(["conversations.1", "infinity", ID.hex]),
    "JSON's own infinity": base64.urlsafe_b64encode(b'["conversations.1",1e999,"%s"]' % ID.hex.encode()).decode(),
    "the year 10000": cursor_of(["conversations.1", 253402300800000000, ID.hex]),
    "before the year 1": cursor_of(["conversations.1", -62135596800000001, ID.hex]),
    "over 63 bits": cursor_of(["conversations.1", 2**63, ID.hex]),
    "over 64 bits": cursor_of(["conversations.1", 2**64, ID.hex]),
    "a number for an id": cursor_of(["conversations.1", 1, 1]),
    "half an id": cursor_of(["conversations.1", 1, ID.hex[:16]]),
    "an id with hyphens": cursor_of(["conversations.1", 1, str(ID)]),
    "an id in capitals": cursor_of(["conversations.1", 1, ID.hex.upper()]),
    "null for an id": cursor_of(["conversations.1", 1, None]),
    "white space": base64.urlsafe_b64encode(b'["conversations.1", 1, "%s"]' % ID.hex.encode()).decode(),
    "padding": CONVERSATIONS.encode(datetime(2026, 1, 1, tzinfo=UTC), ID) + "=",
    "truncated": CONVERSATIONS.encode(datetime(2026, 1, 1, tzinfo=UTC), ID)[:-4],
    "a character too many": CONVERSATIONS.encode(datetime(2026, 1, 1, tzinfo=UTC), ID) + "A",
    "noise inside": "!" + CONVERSATIONS.encode(datetime(2026, 1, 1, tzinfo=UTC), ID),
    "of the messages": MESSAGES.encode(1),
    "of the projects": PROJECTS.encode(ID),
    "huge": "A" * 100_000,
    "deep": base64.urlsafe_b64encode(b"[" * 300).decode(),
}


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED.keys())
def test_forged_cursor_is_refused(sent: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CONVERSATIONS.decode(sent)
    assert list(refused.value.fields or {}) == ["cursor"]


@pytest.mark.parametrize("position", [-1, 2**31, 2**63, 2**64, True, "1", None, 1.5])
def test_invalid_position_is_refused(position: Any) -> None:
    with pytest.raises(InvalidInput):
        MESSAGES.decode(cursor_of(["messages.1", position]))


def test_cursor_of_other_list_is_refused() -> None:
    own = {
        CONVERSATIONS: CONVERSATIONS.encode(datetime(2026, 1, 1, tzinfo=UTC), ID),
        MESSAGES: MESSAGES.encode(7),
        PROJECTS: PROJECTS.encode(ID),
        PROMPTS: PROMPTS.encode(7, ID),
    }
    for pages in ALL:
        for written_by, cursor in own.items():
            if written_by is pages:
                assert pages.decode(cursor)
            else:
                with pytest.raises(InvalidInput):
                    pages.decode(cursor)


def test_longest_cursor_is_below_limit() -> None:
    longest = Pages("x" * 20, lambda item: item, MOMENT, POSITION, IDENTIFIER)
    assert len(longest.encode(datetime.max.replace(tzinfo=UTC), 2**31 - 1, ID)) < LONGEST_CURSOR / 4


def test_extra_row_is_omitted_and_sets_next_cursor() -> None:
    pages = Pages("test.1", lambda item: (item,), POSITION)
    assert pages.envelope([1, 2, 3], limit=2) == {"items": [1, 2], "next_cursor": pages.encode(2)}
    assert pages.envelope([1, 2], limit=2) == {"items": [1, 2], "next_cursor": None}
    assert pages.envelope([], limit=2) == {"items": [], "next_cursor": None}
