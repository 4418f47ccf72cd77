"""Bundles: the messages are restored exactly, or the damage is detected."""

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
    """Return a message as the database does."""
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
    """Return the lines of a bundle, or None if it is damaged; any other error fails the test."""
    try:
        bundles.verify(bundle)
    except ArchiveDamaged:
        return None
    return list(bundles.lines(bundle))


def test_bundle_restores_its_messages() -> None:
    contents = ["", None, 'a "quote" \\ and\r\na line', "\u2028 \x01 \x7f 東京 😀", "[1,2]\n[3,4]", "x" * 3_000_000]
    bundle = bundle_of(*contents)
    bundles.verify(bundle)
    messages = [bundles.message(line) for line in bundles.lines(bundle)]
    assert [message.content for message in messages] == contents
    assert [message.position for message in messages] == [1, 2, 3, 4, 5, 6]
    assert messages[0].metadata == {"a": 1.1}
    assert messages[1].turn_id == UUID(int=2)
    assert messages[2].created_at.isoformat() == "2020-09-13T12:26:40.000003+00:00"


@pytest.mark.parametrize("contents", [[], ["one"], ["y" * 700_000] * 5], ids=["none", "one", "in several pieces"])
def test_checksum_is_deterministic(contents: list[str]) -> None:
    first, second = bundle_of(*contents), bundle_of(*contents)
    assert (first.sha256, first.plain_bytes, first.message_count) == (second.sha256, second.plain_bytes, len(contents))
    assert outcome(first) == outcome(second)
    assert len(first.data) < first.plain_bytes or not contents


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_pages_are_slices_of_the_messages(order: Literal["asc", "desc"], count: int) -> None:
    bundle = bundle_of(*(f"message {number}" for number in range(1, count + 1)))
    for after in (None, *range(count + 2)):
        for limit in (1, 3, 100):
            if order == "asc":
                expected = list(range(1, count + 1))[after or 0 :][:limit]
            else:
                expected = list(range(count, 0, -1))
                expected = [position for position in expected if after is None or position < after][:limit]
            page = bundles.page(bundle, order=order, after=after, limit=limit)
            assert [message.position for message in page] == expected


def test_changed_byte_is_detected_or_has_no_effect() -> None:
    bundle = bundle_of("Hello there", "General talk", None, "x" * 50)
    lines = outcome(bundle)
    changed = 0
    for index in range(len(bundle.data)):
        for flip in (1, 16, 128, 255):
            data = bytearray(bundle.data)
            data[index] ^= flip
            result = outcome(replace(bundle, data=bytes(data)))
            assert result in (None, lines)
            changed += result is None
    assert changed > 3.5 * len(bundle.data)  # the others are padding


def test_any_damage_is_detected() -> None:
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
