"""The beat's composition root: `celery -A tasks.beat beat`. It needs the broker, and no database."""

import logging

from celery import Celery

from app.errors import ParleyError
from ops.catalogue import JOBS
from ops.composition import broker_url, end_process, settings_or_exit
from tasks.logs import use_our_logs
from tasks.schedule import make_beat


def build() -> Celery:
    settings = settings_or_exit()
    use_our_logs()
    try:
        celery_app = make_beat(broker_url(settings), JOBS, settings.server.home)
    except ParleyError as error:
        end_process(error)
    logging.getLogger("parley.jobs").info(
        "the beat begins; it keeps what it sent in %s", celery_app.conf.beat_schedule_filename
    )
    return celery_app


celery_app = build()
