"""So many turns of one user at a time: raced on real connections, counted by PostgreSQL."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from app.config import Settings
from app.errors import ParleyError, TooManyTurns
from app.models.turn import TurnStatus
from app.providers.base import Completed
from app.services.again import again
from app.services.begin import Begun, ChatCommand, Prior
from app.services.finish import Answer, finish
from app.services.identity import Identity
from app.services.turn_limits import QuotaHolders
from tests.factories import Account, make_conversation
from tests.repositories.conftest import silence

Start = Callable[..., Begun | Prior]
DONE = Answer("an answer", Completed("stop", "demo"))
MOST = 5
FIVE = {"max_running_per_user": MOST}


def counted(engine: Engine, account: Account) -> dict[str, int]:
    """What there is of the user's, and how many places the running turns hold."""
    with engine.connect() as connection:
        row = connection.execute(
            text("""
            SELECT (SELECT count(*) FROM conversations WHERE user_id = :u) AS conversations,
                   (SELECT count(*) FROM messages WHERE user_id = :u) AS messages, count(*) AS turns,
                   count(*) FILTER (WHERE status = 'running') AS running,
                   count(DISTINCT slot) FILTER (WHERE status = 'running') AS places
              FROM turns WHERE user_id = :u"""),
            {"u": account.id},
        ).one()
    return dict(row._mapping)


def race(start: Start, account: Account, racers: int = 40) -> list[Begun | ParleyError]:
    """So many new conversations at once."""
    gate = threading.Barrier(racers)

    def one(_: int) -> Begun | ParleyError:
        gate.wait()
        try:
            begun = start(account, chat=FIVE)
        except ParleyError as error:
            return error
        assert isinstance(begun, Begun)
        return begun

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(one, range(racers)))


def test_never_more_than_the_limit_run_and_none_less_than_can(
    connections: Engine, start: Start, user: Account, other_user: Account
) -> None:
    results = race(start, user)
    assert Counter(type(result) for result in results) == {Begun: MOST, TooManyTurns: 40 - MOST}
    assert all(result.retry_after for result in results if isinstance(result, TooManyTurns))
    assert counted(connections, user) == dict.fromkeys(
        ("conversations", "messages", "turns", "running", "places"), MOST
    )
    assert isinstance(start(other_user, chat=FIVE), Begun)


def test_under_load_the_limit_holds_at_every_moment(connections: Engine, start: Start, user: Account) -> None:
    """Ends free their places, whatever they are; the unique index would show a sixth turn as an error."""
    seen = Counter[str]()
    lock = threading.Lock()

    def worker(number: int) -> None:
        status = [TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED][number % 3]
        for _ in range(15):
            try:
                begun = start(user, chat=FIVE)
            except TooManyTurns:
                outcome = "refused"
            else:
                assert isinstance(begun, Begun)
                running = counted(connections, user)["running"]
                assert 1 <= running <= MOST
                finish(connections, begun.turn, status, DONE)
                outcome = "begun"
            with lock:
                seen[outcome] += 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(worker, range(12)))
    assert seen["begun"] > MOST
    assert seen.total() == 12 * 15
    end = counted(connections, user)
    assert (end["running"], end["turns"]) == (0, seen["begun"])
    assert isinstance(start(user, chat=FIVE), Begun)


def test_turns_of_a_process_that_has_gone_give_way(connections: Engine, start: Start, user: Account) -> None:
    begun = [start(user, chat=FIVE) for _ in range(MOST)]
    for each in begun[:2]:
        assert isinstance(each, Begun)
        silence(connections, each.turn)
    assert isinstance(start(user, chat=FIVE), Begun)
    with connections.connect() as connection:
        found = connection.execute(text("SELECT status FROM turns WHERE user_id = :u"), {"u": user.id})
        assert Counter(row.status for row in found) == {"running": MOST - 1, "interrupted": 2}
    assert isinstance(start(user, chat=FIVE), Begun)
    with pytest.raises(TooManyTurns, match=f"{MOST} is the most"):
        start(user, chat=FIVE)


def test_a_turn_that_is_run_again_needs_a_place_too(
    connections: Engine, start: Start, settings: Settings, user: Account
) -> None:
    failed = start(user, chat=FIVE, idempotency_key="once more")
    assert isinstance(failed, Begun)
    finish(connections, failed.turn, TurnStatus.FAILED, Answer(""))
    others = [start(user, chat=FIVE) for _ in range(MOST)]
    command = ChatCommand(Identity(user.id, user.session_id), "hello", idempotency_key="once more")
    chat = settings.chat.model_copy(update=FIVE)

    def run_again() -> object:
        with connections.connect() as connection:
            return again(connection, command, Prior(failed.turn.id), chat, "demo", lambda row: row, QuotaHolders())

    with pytest.raises(TooManyTurns):
        run_again()
    assert isinstance(others[0], Begun)
    finish(connections, others[0].turn, TurnStatus.COMPLETED, DONE)
    assert isinstance(run_again(), Begun)


def test_without_a_limit_turns_hold_no_places(connections: Engine, start: Start, user: Account) -> None:
    for _ in range(MOST + 1):
        assert isinstance(start(user, chat={"max_running_per_user": 0}), Begun)
    assert counted(connections, user)["places"] == 0
    # They are not counted by a process that has a limit, either: it was set while they ran.
    assert isinstance(start(user, chat=FIVE), Begun)


def test_what_else_is_wrong_is_said_first(connections: Engine, start: Start, user: Account) -> None:
    begun = [start(user, chat=FIVE, conversation_id=make_conversation(connections, user)) for _ in range(MOST)]
    assert isinstance(begun[0], Begun)
    with pytest.raises(ParleyError) as busy:
        start(user, chat=FIVE, conversation_id=begun[0].turn.conversation_id)
    assert busy.value.code == "conversation_busy"
    with pytest.raises(ParleyError) as missing:
        start(user, chat=FIVE, conversation_id=user.id)
    assert missing.value.code == "not_found"
    with pytest.raises(TooManyTurns):
        start(user, chat=FIVE, conversation_id=make_conversation(connections, user))
