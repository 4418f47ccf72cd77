"""The declaration of a job: plain data, cheap to import."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

from ops.catalogue.schedules import JobSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job.

    `name` is its name in messages and in the history, `description` one sentence for an operator. `function` is
    `module:function`; it takes keyword arguments, none of them required if the job has a schedule, and returns a report
    (a dataclass) or None. Beat, command line and admin API call the same function. If it takes `dry_run`, the job can
    report what it would change without changing it.

    A run is ended after `time_limit`. At most one run of an `exclusive` job is active at a time, on all hosts. A job
    without a schedule runs on request and is retried after a failure: after `retry_after`, then after four times as
    long for each further retry. `deliveries` limits how often one message is delivered to a worker. `history_ttl`
    shortens how long its runs are kept.
    """

    name: str
    description: str
    time_limit: timedelta
    function: str = ""
    schedule: JobSchedule | None = None
    exclusive: bool = True
    deliveries: int = 3
    retry_after: timedelta = timedelta(seconds=5)
    history_ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if self.schedule is not None and not self.exclusive:
            raise ValueError(f"{self.name} has a schedule, so two beats would run it twice: make it exclusive")

    @property
    def id(self) -> str:
        """The name with hyphens in place of dots and underscores, for file names."""
        return self.name.replace(".", "-").replace("_", "-")

    @property
    def runbook(self) -> str:
        """The path of its runbook, relative to the project's folder."""
        return f"docs/runbooks/{self.id}.md"


def supports_dry_run(job: Job) -> bool:
    """Return whether the function of `job` takes `dry_run`. Imports the function."""
    return "dry_run" in inspect.signature(load(job.function)).parameters


def load(reference: str) -> Callable[..., Any]:
    """Import the function that `reference` (`module:function`) names."""
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
