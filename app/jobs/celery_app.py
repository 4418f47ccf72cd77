"""Celery's application for senders and workers, and the sending of a message with it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.jobs.messages import MAINTENANCE, QUEUES, Message

if TYPE_CHECKING:  # commands start faster without it
    from celery import Celery

BROKER_TIMEOUT = 1.0  # seconds, for connecting and for each operation


def import_celery() -> Any:
    """Import Celery and return its class: this takes 0.1 s of CPU, so commands that send no message do without."""
    from celery import Celery

    return Celery


def make_celery(broker_url: str, *, set_as_current: bool = True) -> "Celery":
    """Create the Celery application of senders and workers: JSON, two queues, UTC, no results, short timeouts."""
    celery_app: Celery = import_celery()("parley", broker=broker_url, set_as_current=set_as_current, fixups=[])
    redis = broker_url.startswith("redis")
    celery_app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues={name: {} for name in QUEUES},
        task_default_queue=MAINTENANCE,
        enable_utc=True,
        timezone="UTC",
        broker_connection_timeout=BROKER_TIMEOUT,
        broker_transport_options={
            **({"socket_connect_timeout": BROKER_TIMEOUT, "socket_timeout": BROKER_TIMEOUT} if redis else {}),
            "max_retries": 1,  # the defaults make the first message wait without end for an unavailable broker
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    )
    return celery_app


def send_message(celery_app: "Celery", message: Message) -> None:
    """Send a message, without retries. Raises the errors of the broker's client."""
    headers = {"request_id": message.request_id, "queued_at": datetime.now(UTC).isoformat()}
    if message.slot is not None:
        headers["slot"] = message.slot.isoformat()
    if message.trace is not None:
        headers |= message.trace.headers
    celery_app.send_task(
        message.name,
        kwargs=message.arguments,
        task_id=str(message.id),
        queue=message.queue,
        headers=headers,
        retry=False,
    )
