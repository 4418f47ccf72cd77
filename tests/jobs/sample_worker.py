"""A worker of the sample jobs, built as `tasks.worker` is: `celery -A tests.jobs.sample_worker worker`."""

import os
from datetime import timedelta

from app.metrics.multiprocess import share
from ops.server.composition import broker_url, create_worker_app, load_process_settings
from tasks.assembly import make_worker
from tasks.base import GRACE_SECONDS
from tests.jobs.sample_jobs import SAMPLES, TIME_LIMIT

settings = load_process_settings()
share(settings.server.home)
flask_app = create_worker_app(settings)

# A test may set a visibility timeout that is shorter than its jobs.
visibility_timeout = timedelta(seconds=float(os.environ.get("JOBS_TEST_VISIBILITY", "120")))

celery_app = make_worker(
    flask_app,
    broker_url(settings),
    SAMPLES,
    concurrency=settings.jobs.worker_concurrency,
    visibility_margin=visibility_timeout - TIME_LIMIT - timedelta(seconds=GRACE_SECONDS),
    restore_interval_seconds=1,
)
