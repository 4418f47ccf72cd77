"""What one user may have of turns: so many at a time, and so many tokens a day.

**At a time** is exact, on all servers together: each running turn holds a numbered place, and an index has each place
once. Nobody is locked for it. Begins of one user that meet in the same place are tried again, in another one.

**Tokens** are only counted for users who have a quota. What a turn may take is set aside as it begins, under a lock on
the user's row, and what it took is counted as it ends, in the statement that ends it, whoever does. Turns can never
begin beyond the quota, however many try at once. What they then take can go beyond what was set aside, if an answer is
longer than QUOTA_OUTPUT_TOKENS; that is counted, and the next turn is refused. What is set aside stands with the
running turn and nowhere else, so that it ends with it. A turn counts on the UTC day on which it ends.
"""

import random
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from app.errors import LimitReached, QuotaExceeded, TooManyTurns
from app.models.turn import TurnStatus
from app.providers.base import Usage
from app.repositories import turn_limits as sql
from app.repositories import turns
from app.repositories.statement import Statement
from app.services.running_turn import RunningTurn
from app.services.stale import close_stale

BYTES_PER_TOKEN = 4  # of UTF-8, as `turn_limits.SIZE` has it
SLOTS = 2**15  # a random number below this chooses among the free places
_TRIES = 10  # to take a place that another begin of the same user does not take at the same moment
_KNOWN = 10_000


class QuotaHolders:
    """Users that are known to have a quota, so that their turns begin with the right statement at once.

    Nothing relies on it: a begin of the wrong kind takes nothing, and `make_room` then learns which is right.
    """

    def __init__(self) -> None:
        self._known: set[UUID] = set()

    def __contains__(self, user_id: UUID) -> bool:
        return user_id in self._known

    def learn(self, user_id: UUID, *, has_quota: bool) -> bool:
        """Whether this is news."""
        if has_quota == (user_id in self._known):
            return False
        if len(self._known) >= _KNOWN:
            self._known.clear()
        if has_quota:
            self._known.add(user_id)
        else:
            self._known.discard(user_id)
        return True


def take(
    connection: Connection, statement: Statement, parameters: dict[str, Any], holders: QuotaHolders
) -> Row[Any] | None:
    """Run a begin of `turns` for whoever calls; None where it takes nothing.

    Raises `TooManyTurns` where others were faster to take a place, again and again.
    """
    by_key, in_quota = parameters["key_id"] is not None, parameters["user_id"] in holders
    chosen = turns.called(statement, by_key=by_key, in_quota=in_quota)
    for _ in range(_TRIES):
        try:
            return chosen.one(connection, parameters)
        except IntegrityError as error:
            if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != sql.PLACES:
                raise
            parameters["lucky"] = random.randrange(SLOTS)  # noqa: S311  # no secret
    raise TooManyTurns(retry_after=1)


def make_room(connection: Connection, parameters: dict[str, Any], holders: QuotaHolders) -> bool:
    """Find out whether a begin that took nothing was short of a place or of tokens, and make room if that can be.

    Whether something is otherwise now, so that it is worth another try. Raises `TooManyTurns` and `QuotaExceeded`.
    """
    room = sql.ROOM.one(connection, parameters)
    if room is None:
        return False
    news = holders.learn(parameters["user_id"], has_quota=room.tokens_per_day is not None)
    refusal = _refusal(room, parameters["max_running"])
    if refusal is None:
        return news
    silent = sql.SILENT.all(connection, parameters)
    closed = [close_stale(connection, stale_seconds=parameters["stale_seconds"], **turn._asdict()) for turn in silent]
    if not any(closed):
        raise refusal
    return True


def _refusal(room: Row[Any], max_running: int) -> LimitReached | None:
    if 0 < max_running <= room.running:
        return TooManyTurns(
            f"You have {room.running} turns running, and {max_running} is the most; wait for the end of one or cancel"
            " it.",
            retry_after=1,
        )
    if room.tokens_per_day is None or room.used + room.reserved + room.wanted <= room.tokens_per_day:
        return None
    left = max(0, room.tokens_per_day - room.used)
    told = f"Of your {room.tokens_per_day} tokens for today {left} are left, and this turn may take {room.wanted}"
    if room.wanted <= left:
        return QuotaExceeded(
            f"{told}, but {room.reserved} are set aside for turns that are running; wait for them.", retry_after=1
        )
    return QuotaExceeded(f"{told}; the quota is renewed at midnight UTC.", retry_after=room.until_midnight)


def charged(turn: RunningTurn, status: TurnStatus, usage: Usage, answer: str, *, heard: bool) -> tuple[int, bool]:
    """What the ended `turn` took, in tokens, and whether that is an estimate.

    It is what the provider says. Where it has not said, because it was not heard to the end or never says, it is what
    was sent to it and what came of the `answer`; nothing where it failed before its first word.
    """
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return usage.input_tokens + usage.output_tokens, False
    if status is TurnStatus.FAILED and not heard:
        return 0, True
    sent = turn.tokens_sent or 0 if usage.input_tokens is None else usage.input_tokens
    said = len(answer.encode()) // BYTES_PER_TOKEN + 1 if usage.output_tokens is None else usage.output_tokens
    return sent + said, True
