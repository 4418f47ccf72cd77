"""The Celery application of the beat: `celery -A tasks.beat beat`. It needs the broker and no database."""

import logging

from celery import Celery

from ops.catalogue.jobs import JOBS
from ops.server.composition import broker_url, exit_on_error, load_process_settings
from tasks.logs import configure_celery_logs
from tasks.schedule import make_beat


def build() -> Celery:
    """Build the beat from the settings; a wrong setting ends the process with one line."""
    with exit_on_error():
        settings = load_process_settings()
        configure_celery_logs()
        celery_app = make_beat(broker_url(settings), JOBS, settings.server.home)
    logging.getLogger("parley.jobs").info("beat started, schedule file %s", celery_app.conf.beat_schedule_filename)
    return celery_app


celery_app = build()
