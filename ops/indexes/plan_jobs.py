"""The jobs `indexes.plan` and `indexes.apply`, and the plans that the former has made."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from app.errors import NotFound
from ops.checks.context import open_check_context
from ops.indexes.apply import apply
from ops.indexes.apply_report import ApplyReport
from ops.indexes.plan_file import from_data
from ops.indexes.planning import Plan, make_plan
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.runs.history import RecordedRun, find_run, recent_runs

PLAN, APPLY = "indexes.plan", "indexes.apply"  # the jobs' names
NONE_YET = "There is no plan yet; `POST /api/admin/jobs/indexes.plan/runs` makes one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and the run of the job that made it."""

    run_id: Annotated[UUID, "Run of the job that made the plan."]
    planned_at: Annotated[datetime, "When that run started."]
    plan: Annotated[Plan, "The plan."]


def plan() -> Plan:
    """Plan the repairs of Parley's indexes."""
    with open_check_context() as context:
        return make_plan(context)


def last_plan() -> Planned:
    """Return the newest plan of the job. Raises `NotFound` if there is none."""
    for run in recent_runs(job=PLAN, status="succeeded", limit=1):
        return _planned(run)
    raise NotFound(NONE_YET)


def planned_by(run_id: UUID) -> Planned:
    """Return the plan of that run of the job. Raises `NotFound` if the run made none."""
    run = find_run(run_id)
    if run is None or run.job != PLAN or run.report is None:
        raise NotFound("No run of indexes.plan with that id has made a plan.")
    return _planned(run)


def apply_planned(
    *, run_id: str, max_minutes: float = 30, now: bool = False, assume_disk: int | None = None
) -> ApplyReport:
    """Apply the plan of that run, as `flask ops index apply` does. Raises what `apply` raises, and `NotFound`."""
    planned = planned_by(UUID(run_id))
    with audited(actor=Actor(kind="job", name=APPLY), action="index.apply", target=planned.plan.database.name) as notes:
        notes["plan"] = run_id
        report = apply(plan=planned.plan, max_minutes=max_minutes, now=now, assume_disk=assume_disk)
        notes["level"] = report.level
    return report


def _planned(run: RecordedRun) -> Planned:
    return Planned(run_id=run.id, planned_at=run.started_at, plan=from_data(run.report or {}))
