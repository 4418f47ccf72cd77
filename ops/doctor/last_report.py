"""Findings of the last recorded runs of the doctor."""

from dataclasses import dataclass

from ops.catalogue.jobs import RUN_DOCTOR, RUN_DOCTOR_THOROUGH
from ops.levels import Level
from ops.runs.history import recent_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFinding:
    """The identity and level of a finding in a stored report."""

    object: str
    level: Level


def last_findings(check: str) -> list[StoredFinding]:
    """Return the findings of `check` in the last successful runs of the doctor."""
    runs = [
        run
        for job in (RUN_DOCTOR, RUN_DOCTOR_THOROUGH)
        for run in recent_runs(job=job.name, status="succeeded", limit=1)
    ]
    return [
        StoredFinding(object=finding.get("object", ""), level=Level(finding["level"]))
        for run in runs
        for result in (run.report or {}).get("results", ())
        if result["check"] == check
        for finding in result["findings"]
    ]
