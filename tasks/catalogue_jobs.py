"""The Celery tasks of the catalogue's jobs."""

from typing import Any

from ops.catalogue.declarations import Job, load
from tasks.base import task


def declare(job: Job) -> Any:
    """Register the Celery task of `job`; the job's function is imported at its first run."""

    def work(**arguments: Any) -> Any:
        return load(job.function)(**arguments)

    return task(job)(work)
