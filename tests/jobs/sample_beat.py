"""A beat of the sample jobs, put together as `tasks.beat` is: `celery -A tests.jobs.sample_beat beat`."""

import logging

from ops.composition import broker_url, settings_or_exit
from tasks.logs import use_our_logs
from tasks.schedule import make_beat
from tests.jobs.sample_jobs import SAMPLES

settings = settings_or_exit()
use_our_logs()
celery_app = make_beat(broker_url(settings), SAMPLES, settings.server.home)
logging.getLogger("parley.jobs").info("the beat begins")
