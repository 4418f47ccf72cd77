"""The Celery application of a worker: `celery -A tasks.worker worker`."""

from celery import Celery

from app.metrics.multiprocess import share
from app.metrics.registry import create_metrics
from ops.catalogue.jobs import JOBS
from ops.server.composition import broker_url, create_worker_app, exit_on_error, load_process_settings
from tasks.assembly import make_worker
from tasks.catalogue_jobs import declare


def build() -> Celery:
    """Build the worker from the settings; a wrong setting ends the process with one line."""
    with exit_on_error():
        settings = load_process_settings()
        share(settings.server.home)
        broker = broker_url(settings)
        flask_app = create_worker_app(settings)
    create_metrics()
    celery_app = make_worker(flask_app, broker, JOBS, concurrency=settings.jobs.worker_concurrency)
    for job in JOBS:
        declare(job)
    return celery_app


celery_app = build()
