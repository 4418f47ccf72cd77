"""The daily token quota: concurrent begins and ends on separate connections keep exact counts."""

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
from app.enums import KeyScope, TurnStatus
from app.errors import ConversationBusy, InvalidInput, NotFound, ParleyError, QuotaExceeded, TurnFenced
from app.providers.base import Completed, Usage
from app.repositories import turn_limits
from app.services import api_keys
from app.services.identity import Identity
from app.services.quotas import Quota, quota_of, set_quota
from app.turns.answer import Answer
from app.turns.attempt import Attempt
from app.turns.decision import Start
from app.turns.finish import finish
from app.turns.limits import QuotaHolders
from app.turns.stale import close_stale
from tests.factories import LoggedInUser, make_conversation
from tests.repositories.conftest import RetryTurn, StartTurn, make_stale

SMALL = {"quota_reserved_output_tokens": 8}
ESTIMATE = len("hello") // 4 + 1 + 8  # of a first message, in tokens
ANSWER = Answer("an answer", Completed("stop", "demo", Usage(3, 4)))


@pytest.fixture(autouse=True)
def _in_application(flask_app: Flask) -> Iterator[None]:
    with flask_app.app_context():
        yield


@pytest.fixture
def begin(start: StartTurn) -> Callable[..., Attempt]:
    def begin(account: LoggedInUser, **command: Any) -> Attempt:
        begun = start(account, chat=SMALL, **command)
        assert isinstance(begun, Attempt)
        return begun

    return begin


def usage(account: LoggedInUser) -> tuple[int, int]:
    """Return the used and the reserved tokens."""
    quota = quota_of(user_id=account.id)
    return quota.used, quota.reserved


def charged_by_status(engine: Engine, account: LoggedInUser) -> Counter[str]:
    """Sum the tokens of the user's turns by status."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT status, sum(quota_tokens) AS tokens FROM turns WHERE user_id = :u GROUP BY status"),
            {"u": account.id},
        )
        return Counter({row.status: int(row.tokens or 0) for row in rows})


def test_concurrent_reservations_stay_within_quota(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    set_quota(user_id=user.id, tokens_per_day=7 * ESTIMATE + 3)
    barrier, holders = threading.Barrier(40), QuotaHolders()

    def try_begin(number: int) -> Attempt | QuotaExceeded:
        barrier.wait()
        try:
            return begin(user, holders=holders if number % 2 else None)
        except QuotaExceeded as error:
            return error

    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(try_begin, range(40)))
    begun = [result for result in results if isinstance(result, Attempt)]
    assert len(begun) == 7
    # Running turns may use less than they reserved, so a retry may succeed soon.
    assert {result.retry_after for result in results if isinstance(result, QuotaExceeded)} == {1}
    assert usage(user) == (0, 7 * ESTIMATE)
    for attempt in begun:
        finish(connections, attempt.turn, TurnStatus.COMPLETED, ANSWER)
    assert usage(user) == (7 * 7, 0)


def test_mixed_begins_ends_and_takeovers_keep_exact_usage(
    connections: Engine, begin: Callable[..., Attempt], flask_app: Flask, user: LoggedInUser
) -> None:
    """Each answer uses less than it reserved, so the sum of used and reserved tokens never exceeds the quota."""
    limit = 30 * ESTIMATE
    set_quota(user_id=user.id, tokens_per_day=limit)
    conversations = [make_conversation(connections, user) for _ in range(3)]
    outcomes, lock = Counter[str](), threading.Lock()
    errors: list[BaseException] = []
    exceeded, stop = list[Quota](), threading.Event()

    def watch() -> None:
        with flask_app.app_context():
            while not stop.wait(0.002):
                quota = quota_of(user_id=user.id)
                if quota.used + quota.reserved > limit:
                    exceeded.append(quota)

    def worker(seed: int) -> None:
        rng, holders = random.Random(seed), QuotaHolders()
        for _ in range(25):
            outcome = "rejected"
            try:
                conversation = {"conversation_id": rng.choice(conversations)} if rng.random() < 0.8 else {}
                turn = begin(user, holders=holders, message="hi", **conversation).turn
                if rng.random() < 0.3:
                    make_stale(connections, turn)
                status = rng.choice([TurnStatus.COMPLETED, TurnStatus.CANCELLED, TurnStatus.FAILED])
                finish(connections, turn, status, ANSWER)
                outcome = "ended"
            except (ConversationBusy, QuotaExceeded):
                pass
            except TurnFenced:
                outcome = "fenced"
            except DBAPIError as error:
                errors.append(error)
            with lock:
                outcomes[outcome] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    stop.set()
    watcher.join()
    assert errors == []
    assert exceeded == []
    assert outcomes["ended"] > 10
    used, reserved = usage(user)
    charged = charged_by_status(connections, user)
    assert reserved == charged["running"]
    assert used == charged.total() - charged["running"]
    assert used >= 7 * outcomes["ended"]


def test_closing_stale_turn_charges_its_reservation(
    connections: Engine, begin: Callable[..., Attempt], settings: Settings, user: LoggedInUser
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10 * ESTIMATE)
    turn = begin(user).turn
    make_stale(connections, turn)
    with connections.connect() as connection:
        key = {"user_id": user.id, "conversation_id": turn.conversation_id, "turn_id": turn.id}
        closed = [
            close_stale(connection, **key, attempt=turn.attempt, stale_seconds=settings.chat.stale_seconds)
            for _ in range(2)
        ]
    assert closed == [True, False]
    assert usage(user) == (ESTIMATE, 0)
    with pytest.raises(TurnFenced):
        finish(connections, turn, TurnStatus.COMPLETED, ANSWER)
    assert usage(user) == (ESTIMATE, 0)


def test_stale_turns_do_not_hold_reservations(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    """The usage of a stopped process is unknown, so its reservation is charged."""
    set_quota(user_id=user.id, tokens_per_day=2 * ESTIMATE)
    make_stale(connections, begin(user).turn)
    second = begin(user).turn
    with pytest.raises(QuotaExceeded, match="running turns have reserved"):
        begin(user)
    assert usage(user) == (ESTIMATE, ESTIMATE)
    finish(connections, second, TurnStatus.COMPLETED, ANSWER)
    with pytest.raises(QuotaExceeded, match="resets at midnight") as raised:
        begin(user)
    until_midnight = (quota_of(user_id=user.id).resets_at - datetime.now(UTC)).total_seconds()
    assert raised.value.retry_after is not None
    assert abs(raised.value.retry_after - until_midnight) < 60


@pytest.mark.parametrize(
    ("status", "answer", "charged", "estimated"),
    [
        (TurnStatus.COMPLETED, ANSWER, 7, False),
        (TurnStatus.COMPLETED, Answer("x" * 39, Completed("stop", "demo")), 2 + 10, True),
        (TurnStatus.COMPLETED, Answer("x" * 39, Completed("stop", "demo", Usage(output_tokens=50))), 2 + 50, True),
        (TurnStatus.COMPLETED, Answer("long", Completed("stop", "demo", Usage(5_000, 6_000))), 11_000, False),
        (TurnStatus.CANCELLED, Answer("x" * 8, None, 0.5), 2 + 3, True),
        (TurnStatus.INTERRUPTED, Answer(""), 2 + 1, True),
        (TurnStatus.FAILED, Answer("x" * 8, None, 0.5), 2 + 3, True),
        (TurnStatus.FAILED, Answer(""), 0, True),
    ],
)
def test_ended_turn_is_charged_its_usage(
    connections: Engine,
    begin: Callable[..., Attempt],
    user: LoggedInUser,
    status: TurnStatus,
    answer: Answer,
    charged: int,
    estimated: bool,
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10_000)
    turn = begin(user).turn
    assert usage(user) == (0, ESTIMATE)
    finish(connections, turn, status, answer)
    assert usage(user) == (charged, 0)
    with connections.connect() as connection:
        row = connection.execute(
            text("SELECT quota_tokens, quota_estimated FROM turns WHERE id = :t"), {"t": turn.id}
        ).one()
    assert tuple(row) == (charged, estimated)


def test_reservation_follows_size_of_context(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    set_quota(user_id=user.id, tokens_per_day=10_000)
    first = begin(user, message="日本語" * 4).turn  # 36 bytes
    assert usage(user) == (0, 36 // 4 + 1 + 8)
    finish(connections, first, TurnStatus.COMPLETED, Answer("x" * 60, Completed("stop", "demo", Usage(1, 1))))
    begin(user, conversation_id=first.conversation_id, message="more")
    assert usage(user) == (2, (4 + 36 + 60) // 4 + 1 + 8)


def test_usage_resets_at_midnight_utc(connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser) -> None:
    quota = set_quota(user_id=user.id, tokens_per_day=2 * ESTIMATE)
    assert quota.resets_at.astimezone(UTC).time() == time(0, 0)
    overnight = begin(user).turn
    finish(connections, begin(user).turn, TurnStatus.COMPLETED, ANSWER)
    with connections.connect() as connection:
        connection.execute(text("UPDATE users SET tokens_day = tokens_day - 1 WHERE id = :u"), {"u": user.id})
    assert usage(user) == (0, ESTIMATE)
    begin(user)
    finish(connections, overnight, TurnStatus.COMPLETED, ANSWER)
    assert usage(user) == (7, ESTIMATE)  # the overnight turn counts on the day on which it ended


def test_turn_with_api_key_is_charged_to_its_user(begin: Callable[..., Attempt], user: LoggedInUser) -> None:
    set_quota(user_id=user.id, tokens_per_day=ESTIMATE)
    key = api_keys.create(Identity(user.id), name="program", scopes=[KeyScope.CHAT])
    caller = api_keys.parse(key.secret)
    begin(user, caller=caller)
    assert usage(user) == (0, ESTIMATE)
    with pytest.raises(QuotaExceeded):
        begin(user, caller=caller)


@pytest.mark.parametrize("answer", ["half", "half of a long answer" * 10])
def test_retry_reserves_tokens_again(
    connections: Engine, begin: Callable[..., Attempt], retry: RetryTurn, user: LoggedInUser, answer: str
) -> None:
    """The partial answer is sent again and counts; the long one alone exceeds the quota."""
    set_quota(user_id=user.id, tokens_per_day=1000)
    turn = begin(user, idempotency_key="once").turn
    finish(connections, turn, TurnStatus.FAILED, Answer(answer, None, 0.1))
    used = usage(user)[0]
    assert used == 2 + len(answer) // 4 + 1
    set_quota(user_id=user.id, tokens_per_day=used + ESTIMATE + len(answer) // 8)
    with pytest.raises(QuotaExceeded, match="resets at midnight"):
        retry(user, turn.id, chat=SMALL)
    set_quota(user_id=user.id, tokens_per_day=used + ESTIMATE + len(answer))
    assert isinstance(retry(user, turn.id, chat=SMALL), Start)
    assert usage(user)[0] == used
    assert usage(user)[1] > ESTIMATE


def test_quota_may_change_while_turns_run(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    before_quota = begin(user).turn
    set_quota(user_id=user.id, tokens_per_day=100)
    assert usage(user) == (0, 0)
    finish(connections, before_quota, TurnStatus.COMPLETED, ANSWER)
    assert usage(user) == (0, 0)
    holders = QuotaHolders()
    in_quota = begin(user, holders=holders).turn
    assert set_quota(user_id=user.id, tokens_per_day=None).tokens_per_day is None
    begin(user, holders=holders)  # `holders` still contains the user
    finish(connections, in_quota, TurnStatus.COMPLETED, ANSWER)
    assert set_quota(user_id=user.id, tokens_per_day=100).used == 0
    finish(connections, begin(user, holders=holders).turn, TurnStatus.COMPLETED, ANSWER)
    assert set_quota(user_id=user.id, tokens_per_day=50).used == 7


def test_invalid_quota_is_rejected(user: LoggedInUser) -> None:
    for tokens in (0, -1, 10**15 + 1):
        with pytest.raises(InvalidInput):
            set_quota(user_id=user.id, tokens_per_day=tokens)
    assert quota_of(user_id=user.id).tokens_per_day is None
    with pytest.raises(NotFound):
        quota_of(user_id=user.session_id)
    with pytest.raises(NotFound):
        set_quota(user_id=user.session_id, tokens_per_day=1)


def test_turns_without_quota_lock_no_user(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    """Turns of a user without a quota begin and end while another transaction locks the user's row."""
    with connections.connect() as holder:
        holder.exec_driver_sql("BEGIN")
        holder.execute(text("SELECT 1 FROM users WHERE id = :u FOR NO KEY UPDATE"), {"u": user.id})
        finish(connections, begin(user).turn, TurnStatus.COMPLETED, ANSWER)
        holder.exec_driver_sql("ROLLBACK")


def test_turn_of_known_quota_holder_sends_two_statements(
    connections: Engine, begin: Callable[..., Attempt], user: LoggedInUser
) -> None:
    set_quota(user_id=user.id, tokens_per_day=1000)
    holders, names = QuotaHolders(), list[str]()

    def record(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        names.append(statement.split("*/")[0].split("/* ")[-1].strip())

    event.listen(connections, "before_cursor_execute", record)
    try:
        for _ in range(2):
            finish(connections, begin(user, holders=holders).turn, TurnStatus.COMPLETED, ANSWER)
    finally:
        event.remove(connections, "before_cursor_execute", record)
    in_quota = ["turns.begin_new_in_quota", "turns.finish_in_quota"]
    assert names == ["turns.begin_new", "turns.diagnose", turn_limits.USAGE.name, *in_quota, *in_quota]


def test_erasing_users_with_quota_causes_no_deadlock(
    connections: Engine, begin: Callable[..., Attempt], make_user: Callable[..., LoggedInUser]
) -> None:
    accounts = [make_user(tokens_per_day=10**6) for _ in range(4)]
    conversations = {account.id: make_conversation(connections, account) for account in accounts}
    errors: list[BaseException] = []

    def chat(account: LoggedInUser) -> None:
        for _ in range(10):
            try:
                begun = begin(account, conversation_id=conversations[account.id])
                finish(connections, begun.turn, TurnStatus.COMPLETED, ANSWER)
            except ConversationBusy:
                continue
            except ParleyError:
                return  # the account is deleted
            except Exception as error:
                errors.append(error)
                return

    def erase(account: LoggedInUser) -> None:
        with connections.connect() as connection:
            connection.execute(text("DELETE FROM users WHERE id = :u"), {"u": account.id})

    with ThreadPoolExecutor(12) as pool:
        for account in accounts * 2:
            pool.submit(chat, account)
        list(pool.map(erase, accounts))
    assert errors == []
