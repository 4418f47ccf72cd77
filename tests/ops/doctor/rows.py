"""Rows of job_runs, as if jobs had run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from app.ids import new_id
from tests.ops.doctor.conftest import DoctorInstall


def add_run(
    install: DoctorInstall,
    job: str,
    ago: timedelta,
    status: str = "succeeded",
    *,
    reason: str | None = None,
    report: dict[str, Any] | None = None,
    by_hand: bool = False,
) -> None:
    """Insert a run of `job` that started and ended `ago`, requested by the beat or `by_hand`."""
    at = datetime.now(UTC) - ago
    install.run(
        "INSERT INTO job_runs (id, job, status, slot, started_at, finished_at, reason, report) VALUES "
        "(%(id)s, %(job)s, %(status)s, %(slot)s, %(at)s, "
        "CASE WHEN %(status)s <> 'running' THEN %(at)s::timestamptz END, %(reason)s, %(report)s::jsonb)",
        id=str(new_id()),
        job=job,
        status=status,
        at=at,
        slot=None if by_hand else at,
        reason=reason,
        report=orjson.dumps(report).decode() if report is not None else None,
    )
