"""Celery's lines go where the application's go, in the same shape."""

import logging
from typing import Any

from celery import signals
from celery.utils.log import get_multiprocessing_logger

# What Celery says of every message, and its own account of a failure, which `ops.runs` gives with the run's id.
_QUIET = {
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.CRITICAL,
    "celery.beat": logging.WARNING,
    "multiprocessing": logging.WARNING,
}


def use_our_logs() -> None:
    """To be called before Celery starts, once logging is set up."""
    logging.getLogger("py.warnings").addFilter(lambda record: "CPendingDeprecationWarning" not in record.getMessage())
    signals.setup_logging.connect(_leave_it_alone, weak=False)
    logging.captureWarnings(True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def _leave_it_alone(**_: Any) -> None:
    """That somebody listens is what keeps Celery from arranging logs itself."""
    get_multiprocessing_logger().propagate = True  # of the pool: its lines would go to standard error as they are
