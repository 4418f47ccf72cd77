"""The beat's composition root: `celery -A tasks.beat beat`. It needs the broker, and no database."""

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
        return make_beat(broker_url(settings), JOBS, settings.server.home)
    except ParleyError as error:
        end_process(error)


celery_app = build()
