"""Every job of the catalogue, made known to Celery. What a job does stands in `ops`; nothing is done here."""

from collections.abc import Callable
from typing import Any

from ops.catalogue import JOBS
from ops.declarations import Job, load
from tasks.base import job


def declare(entry: Job) -> Any:
    """The Celery side of the job that `entry` declares; its function is imported when it first runs."""

    def work(**arguments: Any) -> Any:
        function: Callable[..., Any] = load(entry.where)
        return function(**arguments)

    return job(entry)(work)


for _entry in JOBS:
    declare(_entry)
