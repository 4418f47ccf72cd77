"""A worker of the sample jobs, put together as `tasks.worker` is: `celery -A tests.jobs.sample_worker worker`."""

import os
from datetime import timedelta

from app.metrics.folder import share
from ops.composition import application_or_exit, broker_url, settings_or_exit

settings = settings_or_exit()
share(settings.server.home)
flask_app = application_or_exit(settings)

from tasks.assembly import make_worker  # noqa: E402  # metrics are shared from here on
from tasks.base import GRACE_SECONDS  # noqa: E402
from tests.jobs.sample_jobs import LONGEST, SAMPLES  # noqa: E402

# The visibility timeout that a test asks for, which may be shorter than its jobs.
visible = timedelta(seconds=float(os.environ.get("JOBS_TEST_VISIBILITY", "120")))

celery_app = make_worker(
    flask_app,
    broker_url(settings),
    SAMPLES,
    concurrency=settings.jobs.worker_concurrency,
    visibility_margin=visible - LONGEST - timedelta(seconds=GRACE_SECONDS),
    look_for_lost_seconds=1,
)
