"""The production of an answer: ask the model, make the tool calls that it wants, and ask again, until it answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from app.enums import TurnStatus
from app.errors import ProviderProtocolError, TurnInterrupted
from app.providers.base import ChatRequest
from app.providers.registry import ProviderRegistry
from app.services.provider_choice import ProviderChoices
from app.tools.registry import ToolRegistry
from app.turns.answer import Answer, AnswerResult, ToolRound
from app.turns.attempt import Attempt
from app.turns.metrics import record_reply
from app.turns.pending import APPROVAL
from app.turns.request import Reply, ask
from app.turns.stream import TurnError
from app.turns.tool_calls import ToolCall
from app.turns.tool_rounds import ToolRounds

_STOPPED = Reply("", None, None, None, 0)  # in place of a request that is not sent


@dataclass(frozen=True, slots=True)
class AnswerLoop:
    """Produces the answers of a process. `engine` is in AUTOCOMMIT."""

    providers: ProviderRegistry
    choices: ProviderChoices
    registry: ToolRegistry
    engine: Engine

    def produce(self, attempt: Attempt) -> AnswerResult:
        """Produce the answer of an attempt, and append it to the turn's events. Return how it ended; raise nothing."""
        return _Production(self, attempt).run()


class _Production:
    """The answer of one attempt: the rounds so far, and the context of the next request."""

    def __init__(self, loop: AnswerLoop, attempt: Attempt) -> None:
        self._loop, self._attempt, self._turn = loop, attempt, attempt.turn
        self._tools = ToolRounds(loop.registry, loop.engine, attempt.turn, attempt.options.get("tools"), attempt.scopes)
        self._definitions = self._tools.definitions
        self._context = list(attempt.context)
        self._rounds: list[ToolRound] = []
        self._written = 0  # characters in earlier rounds
        self._first_token_at: float | None = None

    def run(self) -> AnswerResult:
        if self._attempt.pending is not None:
            self._add(ToolRound("", [], self._tools.run_approved(self._attempt.pending)))
        while self._turn.stop_status is None:
            answer_only = self._tools.used_up
            reply = self._ask(answer_only=answer_only)
            sent = reply.completed.tool_calls if reply.completed else None
            if not sent or not self._definitions or answer_only:
                return self._end(reply)
            if self._turn.stop_status is not None:
                return self._end(replace(reply, completed=None))
            calls = self._tools.read(sent)
            if self._tools.need_approval(calls):
                return self._end(reply, pending=calls)
            results = self._tools.run(calls)
            self._written += len(reply.text)
            self._add(
                ToolRound(reply.text, [call.as_sent() for call in calls], results, reply.completed, self._sent_bytes())
            )
        return self._end(_STOPPED)

    def _ask(self, *, answer_only: bool) -> Reply:
        loop, turn = self._loop, self._turn
        request = ChatRequest(
            self._context,
            turn.model,
            tools=self._definitions,
            answer_only=answer_only,
            options=self._attempt.options,
            cancel_token=turn.cancel_token,
        )
        reply = ask(loop.providers, turn, request, replaceable=self._attempt.replaceable, written=self._written)
        record_reply(loop.providers, loop.choices.last(), turn, reply)
        self._first_token_at = self._first_token_at or reply.first_token_at
        return reply

    def _add(self, done: ToolRound) -> None:
        self._rounds.append(done)
        self._context += done.context()

    def _sent_bytes(self) -> int:
        """Return the bytes of the last request's texts; 0 for users without a quota, which is charged by them."""
        if self._turn.tokens_sent is None:
            return 0
        return sum(len((message.text() or "").encode()) for message in self._context)

    def _end(self, reply: Reply, pending: Sequence[ToolCall] = ()) -> AnswerResult:
        completed = reply.completed
        if completed is not None and pending:
            completed = replace(completed, finish_reason=APPROVAL)
        answer = Answer(
            reply.text,
            completed,
            time.monotonic() - self._first_token_at if self._first_token_at else None,
            self._rounds,
            self._sent_bytes() if self._rounds and reply is not _STOPPED else 0,
            [call.as_sent() for call in pending],
            self._attempt.metadata,
        )
        stopped = self._turn.stop_status
        if completed is not None:
            return AnswerResult(TurnStatus.COMPLETED, answer)
        if stopped is not None:
            interrupted = stopped is TurnStatus.INTERRUPTED
            return AnswerResult(stopped, answer, TurnError.of(TurnInterrupted()) if interrupted else None)
        return AnswerResult(TurnStatus.FAILED, answer, TurnError.of(reply.error or ProviderProtocolError()))
