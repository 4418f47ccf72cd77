"""Limits of one user's turns: how many run at the same time, how many tokens they use per day, and how much they store.

**Running turns.** The limit is exact across all servers: each running turn holds a numbered slot, and an index allows
each slot once. Nothing is locked. Concurrent begins of a user that choose the same slot are retried with another one.

**Tokens** are counted only for users with a quota. A begin reserves the turn's estimate under a lock on the user's row;
the statement that ends the turn, in any process, charges what it used. Reservations never exceed the quota. The
usage can exceed it if an answer is longer than QUOTA_RESERVED_OUTPUT_TOKENS; it is charged in full, and the next turn
is rejected. A reservation is a column of the running turn, so it ends with the turn. Usage counts on the UTC day on
which the turn ends.

**Stored bytes** are compared before the turn; its message and its answer may exceed the limit. See
`app.services.stored_bytes`.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from app.enums import TurnStatus
from app.errors import LimitReached, QuotaExceeded, TooManyTurns
from app.providers.base import Usage
from app.repositories.turn_begin import BeginParameters
from app.repositories.turn_limits import STALE_TURNS, USAGE
from app.services.stored_bytes import limit_reached
from app.turns.answer import Answer
from app.turns.stale import close_stale
from app.turns.stream import RunningTurn

BYTES_PER_TOKEN = 4  # of UTF-8; `turn_limits.ESTIMATE` uses the same
_MAX_KNOWN = 10_000


class QuotaHolders:
    """Users known to have a token quota, so that the first begin statement is usually the right variant.

    A wrong variant begins nothing; `check_limits` then corrects the entry.
    """

    def __init__(self) -> None:
        self._known: set[UUID] = set()

    def __contains__(self, user_id: UUID) -> bool:
        return user_id in self._known

    def update(self, user_id: UUID, *, has_quota: bool) -> bool:
        """Record whether the user has a quota; return whether this is a change."""
        if has_quota == (user_id in self._known):
            return False
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        if has_quota:
            self._known.add(user_id)
        else:
            self._known.discard(user_id)
        return True


def check_limits(connection: Connection, parameters: BeginParameters, holders: QuotaHolders) -> bool:
    """Check whether a limit prevented a begin, and close the user's stale turns if so.

    Return whether something changed, so that another try may succeed. Raises `TooManyTurns`,
    `StorageLimitReached` and `QuotaExceeded`.
    """
    usage = USAGE.one(connection, vars(parameters))
    if usage is None:
        return False
    changed = holders.update(parameters.user_id, has_quota=usage.tokens_per_day is not None)
    error = _limit_error(usage, parameters.max_running)
    if error is None:
        return changed
    stale = STALE_TURNS.all(connection, vars(parameters))
    closed = [close_stale(connection, stale_seconds=parameters.stale_seconds, **turn._asdict()) for turn in stale]
    if not any(closed):
        raise error
    return True


def _limit_error(usage: Row[Any], max_running: int) -> LimitReached | None:
    if 0 < max_running <= usage.running:
        return TooManyTurns(
            f"You have {usage.running} running turns, and the limit is {max_running}; wait until one ends, or cancel"
            " one.",
            retry_after=1,
        )
    if 0 < usage.max_bytes <= usage.stored_bytes:
        return limit_reached(usage.stored_bytes, usage.max_bytes)
    if usage.tokens_per_day is None or usage.used + usage.reserved + usage.wanted <= usage.tokens_per_day:
        return None
    left = max(0, usage.tokens_per_day - usage.used)
    prefix = f"{left} of your {usage.tokens_per_day} tokens for today are left, and this turn may use {usage.wanted}"
    if usage.wanted <= left:
        return QuotaExceeded(
            f"{prefix}, but running turns have reserved {usage.reserved}; wait until they end.", retry_after=1
        )
    return QuotaExceeded(f"{prefix}; the quota resets at midnight UTC.", retry_after=usage.until_midnight)


def charged_tokens(turn: RunningTurn, status: TurnStatus, answer: Answer) -> tuple[int, bool]:
    """Return the tokens to charge for the ended `turn`, and whether they are an estimate.

    Each request of a turn counts: those that were answered with calls of tools, and the last one. The provider's usage
    counts. Where it is unknown, because the answer was stopped or the provider does not report it, the input is what
    the begin estimated, or the size of a later request, and the output is estimated from the answer. A last request
    that failed before its first token is free.
    """
    sent, total, estimated = turn.tokens_sent or 0, 0, False
    asked = [done for done in answer.rounds if done.completed is not None]  # others are approved calls
    for number, done in enumerate(asked):
        written = done.text + "".join(call["function"]["arguments"] for call in done.calls)
        sent = done.sent_bytes // BYTES_PER_TOKEN if number else sent
        tokens, is_estimate = _tokens(done.completed.usage if done.completed else Usage(), sent, written)
        total, estimated = total + tokens, estimated or is_estimate
    received = answer.completed is not None or bool(answer.text) or answer.since_first_token is not None
    if answer.rounds:  # the first token may be of an earlier request
        received = answer.completed is not None or bool(answer.text)
        sent = answer.sent_bytes // BYTES_PER_TOKEN
    if answer.rounds and not received and status is not TurnStatus.FAILED and not answer.sent_bytes:
        return total, estimated  # stopped during the calls: there was no further request
    if status is TurnStatus.FAILED and not received:
        return total, True
    tokens, is_estimate = _tokens(answer.completed.usage if answer.completed else Usage(), sent, answer.text)
    return total + tokens, estimated or is_estimate


def _tokens(usage: Usage, sent: int, written: str) -> tuple[int, bool]:
    """Return the tokens of one request, and whether they are an estimate from `sent` tokens and the `written` text."""
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return usage.input_tokens + usage.output_tokens, False
    input_tokens = sent if usage.input_tokens is None else usage.input_tokens
    output_tokens = usage.output_tokens
    if output_tokens is None:
        output_tokens = len(written.encode()) // BYTES_PER_TOKEN + 1
    return input_tokens + output_tokens, True
