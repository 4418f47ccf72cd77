"""Plans and their application as jobs: for the beat, and for whoever has no command line."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.errors import NotFound
from ops.actors import Actor
from ops.audit import audited
from ops.doctor import probing
from ops.history import PastRun, history, past_run
from ops.indexes.apply import Applied, apply
from ops.indexes.planfile import from_data
from ops.indexes.planning import Plan, make_plan

PLAN, APPLY = "indexes.plan", "indexes.apply"  # the jobs' names
NONE_YET = "There is no plan yet; `POST /api/admin/jobs/indexes.plan/runs` asks for one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and the run of the job that made it."""

    run_id: UUID
    planned_at: datetime
    plan: Plan


def plan() -> Plan:
    """Plan what would mend the indexes of our own tables."""
    with probing() as probe:
        return make_plan(probe)


def last_plan() -> Planned:
    """The newest plan of the job. Raises `NotFound` where there is none."""
    for run in history(job=PLAN, status="succeeded", limit=1):
        return _planned(run)
    raise NotFound(NONE_YET)


def planned_by(run_id: UUID) -> Planned:
    """The plan that this run of the job made. Raises `NotFound` where it made none."""
    run = past_run(run_id)
    if run is None or run.job != PLAN or run.report is None:
        raise NotFound("No run of indexes.plan with that id has made a plan.")
    return _planned(run)


def apply_planned(
    *, run_id: str, max_minutes: float = 30, now: bool = False, assume_disk: int | None = None
) -> Applied:
    """Apply the plan of that run, as `flask ops index apply` does. Raises as `apply` does, and `NotFound`."""
    planned = planned_by(UUID(run_id))
    with audited(by=Actor(kind="job", name=APPLY), action="index.apply", on=planned.plan.database.name) as notes:
        notes["plan"] = run_id
        applied = apply(plan=planned.plan, max_minutes=max_minutes, now=now, assume_disk=assume_disk)
        notes["level"] = applied.level
    return applied


def _planned(run: PastRun) -> Planned:
    return Planned(run_id=run.id, planned_at=run.started_at, plan=from_data(run.report or {}))
