"""The worker's composition root: `celery -A tasks.worker worker`."""

from importlib import import_module

from celery import Celery

from app.errors import ParleyError
from app.metrics.folder import share
from ops.composition import application_or_exit, broker_url, end_process, settings_or_exit


def build() -> Celery:
    settings = settings_or_exit()
    try:
        share(settings.server.home)
        broker = broker_url(settings)
    except ParleyError as error:
        end_process(error)
    flask_app = application_or_exit(settings)
    from ops.catalogue import JOBS

    import_module("tasks.catalogue_jobs")  # now that it is settled where metrics are kept
    from tasks.assembly import make_worker

    return make_worker(flask_app, broker, JOBS, concurrency=settings.jobs.worker_concurrency)


celery_app = build()
