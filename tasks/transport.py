"""Redis transport of the worker, with fixes for two cases in which kombu stops the whole worker.

An invalid message is logged and dropped. kombu removes it from the queue and raises an error that stops the worker; or
it is redelivered after the visibility timeout, and stops the next worker.

The broker fails while a job runs: kombu uses the closed channel to restore the message, or to acknowledge it after the
job. Here it is not restored, because the job continues, and it is acknowledged on a new connection. A message that was
not acknowledged is redelivered after the visibility timeout.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as BrokerLost
from redis.exceptions import RedisError

from app.logs import redact

LOGGED_CHARS = 500  # of a dropped message

_log = logging.getLogger("parley.jobs")


class QoS(redis.QoS):
    """Bookkeeping of unacknowledged messages that does not restore those of a lost connection."""

    def restore_unacked(self, client: Any = None) -> None:
        if not self.channel.connection_lost:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]  # kombu has no types


class Channel(redis.Channel):
    """Channel that drops messages that are not JSON, and can acknowledge after its connection is lost."""

    QoS = QoS
    _parameters: dict[str, Any] | None = None  # of the connection to the broker

    @property
    def connection_lost(self) -> bool:
        """Whether the connection is lost; false after an orderly close."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection_lost:
            if self._parameters is None:
                raise BrokerLost("the connection to the broker was lost before it was used")
            return dict(self._parameters)
        parameters = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        if not asynchronous:
            self._parameters = dict(parameters)
        return parameters

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:  # from the parser; `_deliver` raises no such error
            _drop(getattr(error, "doc", None) or error)
            raise Empty from None


class Transport(redis.Transport):
    """Transport that drops a message that is malformed, or whose receiver fails."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except (OSError, RedisError):  # connection errors, which kombu handles; it also counts KeyError as one
            raise
        except Exception:
            _drop(message, exc_info=True)
            self._acknowledge(message)

    def _acknowledge(self, message: Any) -> None:
        """Acknowledge the message in the channel that delivered it, if any."""
        try:
            tag = message["properties"]["delivery_tag"]
        except (TypeError, KeyError):
            return
        for channel in self.channels:
            if tag in channel.qos._delivered:
                channel.qos.ack(tag)


def install() -> None:
    """Use this transport for all Redis connections of the process. Call it before the first one."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))


def _drop(message: Any, *, exc_info: bool = False) -> None:
    _log.error(
        "an invalid message in the queue was dropped: %s", redact(str(message)[:LOGGED_CHARS]), exc_info=exc_info
    )
