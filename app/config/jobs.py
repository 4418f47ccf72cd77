"""Settings of the background jobs."""

from pydantic import Field

from app.bounds import MAX_DAYS, MAX_HOURS
from app.config.values import BrokerUrl, Group


class Jobs(Group):
    broker_url: BrokerUrl | None = Field(
        None,
        validation_alias="CELERY_BROKER_URL",
        description="URL of Redis or RabbitMQ for Celery; unset starts the embedded Redis.",
    )
    worker_concurrency: int = Field(
        2, ge=1, le=64, validation_alias="WORKER_CONCURRENCY", description="Jobs that a worker runs in parallel."
    )
    runs_keep_days: int = Field(
        90, ge=1, le=MAX_DAYS, validation_alias="JOB_RUNS_KEEP_DAYS", description="Days to keep the history of jobs."
    )
    sessions_keep_days: int = Field(
        30, ge=0, le=MAX_DAYS, validation_alias="SESSIONS_KEEP_DAYS", description="Days to keep an ended session."
    )
    api_keys_keep_days: int = Field(
        90, ge=0, le=MAX_DAYS, validation_alias="API_KEYS_KEEP_DAYS", description="Days to keep an ended API key."
    )
    events_keep_hours: int = Field(
        6,
        ge=1,
        le=MAX_HOURS,
        validation_alias="TURN_EVENTS_KEEP_HOURS",
        description="Hours during which a stream can be resumed event by event; afterwards only the full answer is"
        " returned.",
    )
