"""The broker: its state, the messages in its queues, and the workers that it reaches."""

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.jobs.celery_app import BROKER_TIMEOUT, make_celery
from app.jobs.messages import QUEUES
from app.logs import redact

CANCEL_COMMAND = "cancel_job"  # to workers
_PROBE = "parley:broker-check"  # a key in Redis
_READ_AT_ONCE = 500  # messages

_log = logging.getLogger("parley.jobs")


class BrokerState(StrEnum):
    OK = "ok"
    UNREACHABLE = "unreachable"
    READ_ONLY = "read_only"  # it answers, and refuses writes


@dataclass(frozen=True, slots=True)
class BrokerReport:
    """State of the broker; `reason` is the error of its client, without secrets."""

    state: BrokerState
    reason: str = ""


class Broker:
    """The broker whose URL `url` returns. Each operation opens its own connection; without a broker it does nothing."""

    def __init__(self, url: Callable[[], str] | None) -> None:
        self._url = url

    @property
    def is_configured(self) -> bool:
        """Whether there is a URL."""
        return self._url is not None

    def check(self) -> BrokerReport | None:
        """Connect to the broker and write to it, within about two seconds. Returns None without a broker.

        A Redis that is out of memory, a replica, or one with a full disk still answers; it only refuses to be written
        to. The check of another broker ends with the connection.
        """
        if self._url is None:
            return None
        try:
            with make_celery(self._url(), set_as_current=False).connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_TIMEOUT)
                if connection.transport.driver_type == "redis":
                    return _check_writing(connection)
        except Exception as error:  # each broker's client has its own
            return _broker_problem(BrokerState.UNREACHABLE, error)
        return BrokerReport(BrokerState.OK)

    def queue_lengths(self) -> dict[str, int]:
        """Return the number of messages in each queue of the broker. Raises the errors of its client."""
        if self._url is None:
            return {}
        with make_celery(self._url(), set_as_current=False).connection_for_read() as connection:
            return {name: _length(connection, name) for name in QUEUES}

    def inspect_workers(self, seconds: float) -> dict[str, dict[str, Any]]:
        """Ask all workers for their statistics, active and reserved messages; each takes `seconds`.

        Returns the replies by worker and question. Raises the errors of the broker's client.
        """
        if self._url is None:
            return {}
        replies: dict[str, dict[str, Any]] = {}
        with make_celery(self._url(), set_as_current=False) as celery_app:
            inspect = celery_app.control.inspect(timeout=seconds)
            for question in ("stats", "active", "reserved"):
                for worker, reply in (getattr(inspect, question)() or {}).items():
                    replies.setdefault(worker, {})[question] = reply
        return replies

    def cancel_running(self, message_id: str, *, grace: float, seconds: float) -> dict[str, int]:
        """Ask all workers to end the run of a message: softly, and after `grace` seconds by SIGKILL.

        Returns the process that runs it by worker, empty if no worker has replied within `seconds` that it does. Raises
        the errors of the broker's client.
        """
        if self._url is None:
            return {}
        with make_celery(self._url(), set_as_current=False) as celery_app:
            arguments = {"message_id": message_id, "grace": grace}
            replies = celery_app.control.broadcast(CANCEL_COMMAND, arguments=arguments, reply=True, timeout=seconds)
        by_worker = {worker: reply for answer in replies or () for worker, reply in answer.items()}
        return {worker: int(reply["pid"]) for worker, reply in by_worker.items() if reply.get("pid")}

    def read_messages(self) -> Iterator[bytes]:
        """Read all messages that no worker has finished, as the broker stores them, without receiving them.

        First those of the queues, then the received ones: a message moves in this direction. Raises
        `NotImplementedError` for a broker that is not a Redis, and its client's errors.
        """
        if self._url is None:
            return
        with make_celery(self._url(), set_as_current=False).connection_for_read() as connection:
            if connection.transport.driver_type != "redis":
                raise NotImplementedError("Only a Redis shows its messages.")
            with connection.channel() as channel:
                for name in QUEUES:
                    for start in itertools.count(0, _READ_AT_ONCE):
                        messages = channel.client.lrange(name, start, start + _READ_AT_ONCE - 1)
                        yield from messages
                        if not messages:
                            break
                for _, received in channel.client.hscan_iter(channel.unacked_key, count=_READ_AT_ONCE):
                    yield received

    def purge(self, name: str) -> int:
        """Delete the waiting messages of a queue and return their number. Raises the errors of the broker's client."""
        if self._url is None:
            return 0
        with make_celery(self._url(), set_as_current=False).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_TIMEOUT)
            with connection.channel() as channel:
                return int(channel.queue_purge(name) or 0)


def _check_writing(connection: Any) -> BrokerReport:
    """Write a key to a Redis, which expires."""
    from redis.exceptions import ResponseError

    try:
        with connection.channel() as channel:
            channel.client.set(_PROBE, "1", ex=60)
    except ResponseError as error:
        return _broker_problem(BrokerState.READ_ONLY, error)
    return BrokerReport(BrokerState.OK)


def _broker_problem(state: BrokerState, error: Exception) -> BrokerReport:
    report = BrokerReport(state, redact(f"{type(error).__name__}: {error}"))
    _log.warning("the broker is %s: %s", state.value.replace("_", "-"), report.reason)
    return report


def _length(connection: Any, name: str) -> int:
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors:  # the queue does not exist: nothing was sent yet or, in Redis, it is empty
        return 0
