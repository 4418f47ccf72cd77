"""Redis for the worker, where a message that nobody can understand is logged and dropped.

kombu takes such a message off the queue and then raises what stops the whole worker; one that is half understood comes
back after the visibility timeout, to stop the next one.
"""

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import RedisError

from app.logs import redact

SHOWN = 500  # characters of a dropped message in the log

_log = logging.getLogger("parley.jobs")


class Channel(redis.Channel):
    """Drops what is not even JSON."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu's own gap, as below
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
