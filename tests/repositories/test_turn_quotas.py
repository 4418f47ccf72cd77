"""Tokens of a day, raced on real connections: never promised beyond the quota, never lost, never leaked."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.errors import ConversationBusy, InvalidInput, NotFound, ParleyError, QuotaExceeded, TurnFenced
from app.models import KeyScope
from app.models.turn import TurnStatus
from app.providers.base import Completed, Usage
from app.repositories import turn_limits
from app.services import api_keys
from app.services.again import again
from app.services.begin import Begun, ChatCommand, Prior
from app.services.finish import Answer, finish
from app.services.identity import Identity
from app.services.quotas import Quota
from app.services.stale import close_stale
from app.services.turn_limits import QuotaHolders
from ops.accounts.quotas import quota_of, set_quota
from tests.factories import Account, make_conversation
from tests.repositories.conftest import silence

Start = Callable[..., Begun | Prior]
SMALL = {"quota_output_tokens": 8}
WANTED = len("hello") // 4 + 1 + 8  # of a first message
TOOK = Answer("an answer", Completed("stop", "demo", Usage(3, 4)))


@pytest.fixture(autouse=True)
def _in_application(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def begin(start: Start) -> Callable[..., Begun]:
    def begin(account: Account, **command: Any) -> Begun:
        begun = start(account, chat=SMALL, **command)
        assert isinstance(begun, Begun)
        return begun

    return begin


def state(account: Account) -> tuple[int, int]:
    quota = quota_of(user_id=account.id)
    return quota.used, quota.reserved


def ledger(engine: Engine, account: Account) -> Counter[str]:
    """The tokens of the user's turns by their status, as the turns have them."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT status, sum(quota_tokens) AS tokens FROM turns WHERE user_id = :u GROUP BY status"),
            {"u": account.id},
        )
        return Counter({row.status: int(row.tokens or 0) for row in rows})


def test_turns_that_race_are_promised_no_more_than_there_is(
    connections: Engine, begin: Callable[..., Begun], user: Account
) -> None:
    set_quota(user_id=user.id, tokens_per_day=7 * WANTED + 3)
    gate, holders = threading.Barrier(40), QuotaHolders()

    def one(number: int) -> Begun | QuotaExceeded:
        gate.wait()
        try:
            return begin(user, holders=holders if number % 2 else None)
        except QuotaExceeded as refused:
            return refused

    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(one, range(40)))
    begun = [result for result in results if isinstance(result, Begun)]
    assert len(begun) == 7
    # They may be needed less than they are set aside, so it may be worth to try again soon.
    assert {result.retry_after for result in results if isinstance(result, QuotaExceeded)} == {1}
    assert state(user) == (0, 7 * WANTED)
    for each in begun:
        finish(connections, each.turn, TurnStatus.COMPLETED, TOOK)
    assert state(user) == (7 * 7, 0)


def test_mixed_begins_ends_and_takeovers_lose_and_leak_nothing(
    connections: Engine, begin: Callable[..., Begun], flask_app: Flask, user: Account
) -> None:
    """Each answer takes less than was set aside, so what is used and set aside stays within the quota all the time."""
    limit = 30 * WANTED
    set_quota(user_id=user.id, tokens_per_day=limit)
    places = [make_conversation(connections, user) for _ in range(3)]
    ended, lock = Counter[str](), threading.Lock()
    errors: list[BaseException] = []
    over, stop = list[Quota](), threading.Event()

    def watch() -> None:
        with flask_app.app_context():
            while not stop.wait(0.002):
                quota = quota_of(user_id=user.id)
                if quota.used + quota.reserved > limit:
                    over.append(quota)

    def worker(seed: int) -> None:
        chance, holders = random.Random(seed), QuotaHolders()
        for _ in range(25):
            outcome = "refused"
            try:
                place = {"conversation_id": chance.choice(places)} if chance.random() < 0.8 else {}
                turn = begin(user, holders=holders, message="hi", **place).turn
                if chance.random() < 0.3:
                    silence(connections, turn)
                status = chance.choice([TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED])
                finish(connections, turn, status, TOOK)
                outcome = "ended"
            except (ConversationBusy, QuotaExceeded):
                pass
            except TurnFenced:
                outcome = "fenced"
            except DBAPIError as error:
                errors.append(error)
            with lock:
                ended[outcome] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    stop.set()
    watcher.join()
    assert errors == []
    assert over == []
    assert ended["ended"] > 10
    used, reserved = state(user)
    found = ledger(connections, user)
    assert reserved == found["running"]
    assert used == found.total() - found["running"]
    assert used >= 7 * ended["ended"]


def test_whoever_closes_a_silent_turn_counts_what_was_set_aside_for_it(
    connections: Engine, begin: Callable[..., Begun], settings: Settings, user: Account
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10 * WANTED)
    turn = begin(user).turn
    silence(connections, turn)
    with connections.connect() as connection:
        place = {"user_id": user.id, "conversation_id": turn.conversation_id, "turn_id": turn.id}
        both = [
            close_stale(connection, **place, attempt=turn.attempt, stale_seconds=settings.chat.stale_seconds)
            for _ in range(2)
        ]
    assert both == [True, False]
    assert state(user) == (WANTED, 0)
    with pytest.raises(TurnFenced):
        finish(connections, turn, TurnStatus.COMPLETED, TOOK)
    assert state(user) == (WANTED, 0)


def test_silent_turns_do_not_keep_their_tokens_from_the_next(
    connections: Engine, begin: Callable[..., Begun], user: Account
) -> None:
    """Their process has gone for good; what it used nobody knows, so it counts as used."""
    set_quota(user_id=user.id, tokens_per_day=2 * WANTED)
    silence(connections, begin(user).turn)
    second = begin(user).turn
    with pytest.raises(QuotaExceeded, match="set aside for turns that are running"):
        begin(user)
    assert state(user) == (WANTED, WANTED)
    finish(connections, second, TurnStatus.COMPLETED, TOOK)
    with pytest.raises(QuotaExceeded, match="renewed at midnight") as refused:
        begin(user)
    until_midnight = (quota_of(user_id=user.id).resets_at - datetime.now(UTC)).total_seconds()
    assert refused.value.retry_after is not None
    assert abs(refused.value.retry_after - until_midnight) < 60


@pytest.mark.parametrize(
    ("status", "answer", "took", "estimated"),
    [
        (TurnStatus.COMPLETED, TOOK, 7, False),
        (TurnStatus.COMPLETED, Answer("x" * 39, Completed("stop", "demo")), 2 + 10, True),
        (TurnStatus.COMPLETED, Answer("x" * 39, Completed("stop", "demo", Usage(output_tokens=50))), 2 + 50, True),
        (TurnStatus.COMPLETED, Answer("long", Completed("stop", "demo", Usage(5_000, 6_000))), 11_000, False),
        (TurnStatus.CANCELLED, Answer("x" * 8, None, 0.5), 2 + 3, True),
        (TurnStatus.INTERRUPTED, Answer(""), 2 + 1, True),
        (TurnStatus.FAILED, Answer("x" * 8, None, 0.5), 2 + 3, True),
        (TurnStatus.FAILED, Answer(""), 0, True),
    ],
)
def test_an_ended_turn_counts_for_what_it_took(
    connections: Engine,
    begin: Callable[..., Begun],
    user: Account,
    status: TurnStatus,
    answer: Answer,
    took: int,
    estimated: bool,
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10_000)
    turn = begin(user).turn
    assert state(user) == (0, WANTED)
    finish(connections, turn, status, answer)
    assert state(user) == (took, 0)
    with connections.connect() as connection:
        row = connection.execute(
            text("SELECT quota_tokens, quota_estimated FROM turns WHERE id = :t"), {"t": turn.id}
        ).one()
    assert tuple(row) == (took, estimated)


def test_what_is_set_aside_follows_what_is_sent(
    connections: Engine, begin: Callable[..., Begun], user: Account
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10_000)
    first = begin(user, message="日本語" * 4).turn  # 36 bytes
    assert state(user) == (0, 36 // 4 + 1 + 8)
    finish(connections, first, TurnStatus.COMPLETED, Answer("x" * 60, Completed("stop", "demo", Usage(1, 1))))
    begin(user, conversation_id=first.conversation_id, message="more")
    assert state(user) == (2, (4 + 36 + 60) // 4 + 1 + 8)


def test_a_day_ends_at_midnight(connections: Engine, begin: Callable[..., Begun], user: Account) -> None:
    quota = set_quota(user_id=user.id, tokens_per_day=2 * WANTED)
    assert quota.resets_at.astimezone(UTC).time() == time(0, 0)
    over_night = begin(user).turn
    finish(connections, begin(user).turn, TurnStatus.COMPLETED, TOOK)
    with connections.connect() as connection:
        connection.execute(text("UPDATE users SET tokens_day = tokens_day - 1 WHERE id = :u"), {"u": user.id})
    assert state(user) == (0, WANTED)
    begin(user)
    finish(connections, over_night, TurnStatus.COMPLETED, TOOK)
    assert state(user) == (7, WANTED)  # on the day on which it ended


def test_a_turn_under_an_api_key_counts_for_its_owner(begin: Callable[..., Begun], user: Account) -> None:
    set_quota(user_id=user.id, tokens_per_day=WANTED)
    made = api_keys.create(Identity(user.id), name="program", scopes=[KeyScope.CHAT])
    caller = api_keys.read(made.secret)
    begin(user, caller=caller)
    assert state(user) == (0, WANTED)
    with pytest.raises(QuotaExceeded):
        begin(user, caller=caller)


@pytest.mark.parametrize("answer", ["half", "half of a long answer" * 10])
def test_a_turn_that_is_run_again_sets_aside_again(
    connections: Engine, begin: Callable[..., Begun], settings: Settings, user: Account, answer: str
) -> None:
    """What was said before is sent again, and counts: with the long one it is that which does not fit."""
    set_quota(user_id=user.id, tokens_per_day=1000)
    turn = begin(user, idempotency_key="again").turn
    finish(connections, turn, TurnStatus.FAILED, Answer(answer, None, 0.1))
    used = state(user)[0]
    assert used == 2 + len(answer) // 4 + 1
    command = ChatCommand(Identity(user.id, user.session_id), "hello", idempotency_key="again")
    chat = settings.chat.model_copy(update=SMALL)

    def run_again() -> object:
        with connections.connect() as connection:
            return again(connection, command, Prior(turn.id), chat, "demo", lambda row: row, QuotaHolders())

    set_quota(user_id=user.id, tokens_per_day=used + WANTED + len(answer) // 8)
    with pytest.raises(QuotaExceeded, match="renewed at midnight"):
        run_again()
    set_quota(user_id=user.id, tokens_per_day=used + WANTED + len(answer))
    assert isinstance(run_again(), Begun)
    assert state(user)[0] == used
    assert state(user)[1] > WANTED


def test_a_quota_may_come_and_go_while_turns_run(
    connections: Engine, begin: Callable[..., Begun], user: Account
) -> None:
    uncounted = begin(user).turn
    set_quota(user_id=user.id, tokens_per_day=100)
    assert state(user) == (0, 0)
    finish(connections, uncounted, TurnStatus.COMPLETED, TOOK)
    assert state(user) == (0, 0)
    holders = QuotaHolders()
    counted = begin(user, holders=holders).turn
    assert set_quota(user_id=user.id, tokens_per_day=None).tokens_per_day is None
    begin(user, holders=holders)  # which still thinks that there is one
    finish(connections, counted, TurnStatus.COMPLETED, TOOK)
    assert set_quota(user_id=user.id, tokens_per_day=100).used == 0
    finish(connections, begin(user, holders=holders).turn, TurnStatus.COMPLETED, TOOK)
    assert set_quota(user_id=user.id, tokens_per_day=50).used == 7


def test_a_quota_that_is_none_is_refused(user: Account) -> None:
    for wrong in (0, -1, 10**15 + 1):
        with pytest.raises(InvalidInput):
            set_quota(user_id=user.id, tokens_per_day=wrong)
    assert quota_of(user_id=user.id).tokens_per_day is None
    with pytest.raises(NotFound):
        quota_of(user_id=user.session_id)
    with pytest.raises(NotFound):
        set_quota(user_id=user.session_id, tokens_per_day=1)


def test_only_who_has_a_quota_locks_anything(connections: Engine, begin: Callable[..., Begun], user: Account) -> None:
    """With the user's row locked by somebody else, turns of users without a quota begin and end."""
    with connections.connect() as holder:
        holder.exec_driver_sql("BEGIN")
        holder.execute(text("SELECT 1 FROM users WHERE id = :u FOR NO KEY UPDATE"), {"u": user.id})
        finish(connections, begin(user).turn, TurnStatus.COMPLETED, TOOK)
        holder.exec_driver_sql("ROLLBACK")


def test_once_it_is_known_a_turn_in_a_quota_is_two_statements(
    connections: Engine, begin: Callable[..., Begun], user: Account
) -> None:
    set_quota(user_id=user.id, tokens_per_day=1000)
    holders, seen = QuotaHolders(), list[str]()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement.split("*/")[0].split("/* ")[-1].strip())

    event.listen(connections, "before_cursor_execute", note)
    try:
        for _ in range(2):
            finish(connections, begin(user, holders=holders).turn, TurnStatus.COMPLETED, TOOK)
    finally:
        event.remove(connections, "before_cursor_execute", note)
    told = ["turns.begin_new_in_quota", "turns.finish_in_quota"]
    assert seen == ["turns.begin_new", "turns.diagnose", turn_limits.ROOM.name, *told, *told]


def test_erasing_users_with_a_quota_deadlocks_with_nobody(
    connections: Engine, begin: Callable[..., Begun], make_user: Callable[..., Account]
) -> None:
    accounts = [make_user(tokens_per_day=10**6) for _ in range(4)]
    places = {account.id: make_conversation(connections, account) for account in accounts}
    errors: list[BaseException] = []

    def chat(account: Account) -> None:
        for _ in range(10):
            try:
                begun = begin(account, conversation_id=places[account.id])
                finish(connections, begun.turn, TurnStatus.COMPLETED, TOOK)
            except ConversationBusy:
                continue
            except ParleyError:
                return  # the account is gone, which is said as such
            except Exception as error:
                errors.append(error)
                return

    def erase(account: Account) -> None:
        with connections.connect() as connection:
            connection.execute(text("DELETE FROM users WHERE id = :u"), {"u": account.id})

    with ThreadPoolExecutor(12) as pool:
        for account in accounts * 2:
            pool.submit(chat, account)
        list(pool.map(erase, accounts))
    assert errors == []
