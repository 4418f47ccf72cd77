"""Redis for the worker, mended where kombu stops a whole worker for what is no reason to.

A message that nobody can understand is logged and dropped. kombu takes it off the queue and then raises what nobody
catches; or it comes back after the visibility timeout, to stop the next worker.

A broker that goes away while a job is under way: kombu asks the closed channel for what it no longer has, when it wants
to give the message back, or to acknowledge it once the job has ended. Here it is not given back, because the job goes
on, and is acknowledged by a new connection. What was not acknowledged comes again after the visibility timeout.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import RedisError

from app.logs import redact

SHOWN = 500  # characters of a dropped message in the log

_log = logging.getLogger("parley.jobs")


class QoS(redis.QoS):
    """Keeps the messages of a lost connection where they are."""

    def restore_unacked(self, client: Any = None) -> None:
        if not self.channel.cut_off:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]  # kombu's own gap, as below


class Channel(redis.Channel):
    """Drops what is not even JSON. Cut off from its connection, it can still acknowledge."""

    QoS = QoS
    _known: dict[str, Any] | None = None  # how to reach the broker

    @property
    def cut_off(self) -> bool:
        """Whether the connection is gone for good; at an orderly end it is not."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.cut_off:
            if self._known is None:
                raise BrokerLost("the connection to the broker was lost before it was used")
            return dict(self._known)
        known = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        if not asynchronous:
            self._known = dict(known)
        return known

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:  # raised before `_deliver`, which lets no such error out
            _drop(getattr(error, "doc", None) or error)
            raise Empty from None


class Transport(redis.Transport):
    """Drops what has not the shape of a message, or makes its receiver fail."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except (OSError, RedisError):  # kombu itself also counts KeyError as a broken connection
            raise
        except Exception:
            _drop(message, exc_info=True)
            self._forget(message)

    def _forget(self, message: Any) -> None:
        """Acknowledge it where it has been taken into account already."""
        try:
            tag = message["properties"]["delivery_tag"]
        except (TypeError, KeyError):
            return
        for channel in self.channels:
            if tag in channel.qos._delivered:
                channel.qos.ack(tag)


def install() -> None:
    """Have every Redis connection of this process made this way; to be called before the first one."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))


def _drop(message: Any, *, exc_info: bool = False) -> None:
    _log.error(
        "a message in the queue makes no sense and was dropped: %s", redact(str(message)[:SHOWN]), exc_info=exc_info
    )
