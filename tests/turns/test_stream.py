"""The outcome of a turn, read by several readers."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from app.api import answers
from app.enums import TurnStatus
from app.errors import ParleyError, ProviderOverloaded
from app.turns.stream import Outcome, TurnError, TurnStream

READERS = 8


def test_each_reader_of_a_failed_turn_raises_its_own_exception() -> None:
    """A shared exception would collect the tracebacks of all readers, and show the ids set by the last one."""
    turn = TurnStream(user_id=UUID(int=1), id=UUID(int=2), conversation_id=UUID(int=3))
    error = TurnError.of(ProviderOverloaded("too many requests", retry_after=7))

    def read(_: int) -> ParleyError:
        with pytest.raises(ParleyError) as raised:
            answers._as_json(turn)
        return raised.value

    with ThreadPoolExecutor(READERS) as threads:
        pending = [threads.submit(read, number) for number in range(READERS)]
        turn.end(Outcome(TurnStatus.FAILED, {}, None, error), "turn.failed", {})
        errors = [reader.result(timeout=20) for reader in pending]
    assert len({id(error) for error in errors}) == READERS
    assert {(type(error), error.detail, error.retry_after) for error in errors} == {
        (ProviderOverloaded, "too many requests", 7)
    }
    assert errors[0].about == {"turn_id": str(turn.id), "conversation_id": str(turn.conversation_id)}
