"""One bundle: what comes out is what went in, or nothing does."""

import random
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

import pytest

from app.errors import ArchiveDamaged
from app.services import bundles
from app.services.bundles import Bundle, Writer, new_compressor

USER, CONVERSATION = UUID(int=1), UUID(int=2)


def row(position: int, content: str | None) -> tuple[Any, ...]:
    """A message as the database gives it."""
    return (
        position,
        "user",
        content,
        None,
        None,
        '{"a": 1.10}',
        str(UUID(int=position)),
        1_600_000_000_000_000 + position,
    )


def bundle_of(*contents: str | None) -> Bundle:
    writer = Writer(USER, CONVERSATION, len(contents), new_compressor())
    for position, content in enumerate(contents, 1):
        writer.add(row(position, content))
    return writer.close()


def outcome(bundle: Bundle) -> list[bytes] | None:
    """The lines of a bundle, None if it is damaged; anything else is an error of ours."""
    try:
        bundles.verify(bundle)
    except ArchiveDamaged:
        return None
    return list(bundles.lines(bundle))


def test_what_goes_in_comes_out() -> None:
    contents = ["", None, 'a "quote" \\ and\r\na line', "\u2028 \x01 \x7f 東京 😀", "[1,2]\n[3,4]", "x" * 3_000_000]
    bundle = bundle_of(*contents)
    bundles.verify(bundle)
    found = [bundles.message(line) for line in bundles.lines(bundle)]
    assert [message.content for message in found] == contents
    assert [message.position for message in found] == [1, 2, 3, 4, 5, 6]
    assert found[0].metadata == {"a": 1.1}
    assert found[1].turn_id == UUID(int=2)
    assert found[2].created_at.isoformat() == "2020-09-13T12:26:40.000003+00:00"


@pytest.mark.parametrize("contents", [[], ["one"], ["y" * 700_000] * 5], ids=["none", "one", "in several pieces"])
def test_the_same_messages_make_the_same_checksum(contents: list[str]) -> None:
    first, second = bundle_of(*contents), bundle_of(*contents)
    assert (first.sha256, first.plain_bytes, first.message_count) == (second.sha256, second.plain_bytes, len(contents))
    assert outcome(first) == outcome(second)
    assert len(first.data) < first.plain_bytes or not contents


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_pages_are_what_slices_of_a_list_are(order: Literal["asc", "desc"], count: int) -> None:
    bundle = bundle_of(*(f"message {number}" for number in range(1, count + 1)))
    for after in (None, *range(count + 2)):
        for limit in (1, 3, 100):
            if order == "asc":
                expected = list(range(1, count + 1))[after or 0 :][:limit]
            else:
                expected = list(range(count, 0, -1))
                expected = [each for each in expected if after is None or each < after][:limit]
            found = bundles.page(bundle, order=order, after=after, limit=limit)
            assert [message.position for message in found] == expected


def test_any_changed_byte_is_found_or_changes_nothing() -> None:
    bundle = bundle_of("Hello there", "General talk", None, "x" * 50)
    whole = outcome(bundle)
    changed = 0
    for place in range(len(bundle.data)):
        for flip in (1, 16, 128, 255):
            data = bytearray(bundle.data)
            data[place] ^= flip
            found = outcome(replace(bundle, data=bytes(data)))
            assert found in (None, whole)
            changed += found is None
    assert changed > 3.5 * len(bundle.data)  # what changes nothing is padding


def test_any_damage_at_all_is_found() -> None:
    bundle = bundle_of(*(f"message {number}" for number in range(40)))
    dice = random.Random(1)
    for _ in range(300):
        start = dice.randrange(len(bundle.data))
        end = dice.randrange(start, len(bundle.data) + 1)
        put = dice.randbytes(dice.choice([0, 1, 30]))
        data = bundle.data[:start] + put + bundle.data[end:]
        assert data == bundle.data or outcome(replace(bundle, data=data)) is None
    for wrong in (
        {"message_count": 41},
        {"message_count": 39},
        {"plain_bytes": bundle.plain_bytes + 1},
        {"plain_bytes": bundle.plain_bytes - 1},
        {"sha256": bytes(32)},
        {"user_id": UUID(int=9)},
        {"conversation_id": UUID(int=9)},
        {"data": b""},
        {"data": bundle.data + bundle.data},
    ):
        assert outcome(replace(bundle, **wrong)) is None
