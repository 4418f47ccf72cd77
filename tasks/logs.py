"""Logging of Celery through the application's handlers."""

import logging
from typing import Any

from celery import signals
from celery.utils.log import get_multiprocessing_logger

# A line per message, and tracebacks of failed jobs, which `ops.runs.run` logs with the run's id.
_QUIET = {
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.CRITICAL,
    "celery.beat": logging.WARNING,
    "multiprocessing": logging.WARNING,
}


def configure_celery_logs() -> None:
    """Route Celery's logs to the application's handlers. Call it after logging is configured, before Celery starts."""
    logging.getLogger("py.warnings").addFilter(lambda record: "CPendingDeprecationWarning" not in record.getMessage())
    signals.setup_logging.connect(_skip_celery_setup, weak=False)
    logging.captureWarnings(True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def _skip_celery_setup(**_: Any) -> None:
    """Keep Celery from configuring logging: it does not if this signal has a receiver."""
    get_multiprocessing_logger().propagate = True  # else the pool logs to standard error in its own format
