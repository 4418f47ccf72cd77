"""A beat of the sample jobs, built as `tasks.beat` is: `celery -A tests.jobs.sample_beat beat`."""

import logging

from ops.server.composition import broker_url, load_process_settings
from tasks.logs import configure_celery_logs
from tasks.schedule import make_beat
from tests.jobs.sample_jobs import SAMPLES

settings = load_process_settings()
configure_celery_logs()
celery_app = make_beat(broker_url(settings), SAMPLES, settings.server.home)
logging.getLogger("parley.jobs").info("beat started")
