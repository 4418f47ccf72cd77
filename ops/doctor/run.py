"""Running the doctor: checks one after the other on one connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.checks.context import CheckContext, open_check_context
from ops.checks.declaration import Check
from ops.checks.run import CheckResult, run_check
from ops.doctor.acknowledgements import Acknowledgements
from ops.levels import Level, worst
from ops.runs.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The results of the checks that ran, in the order of the registry. `level` is the worst of them.

    Acknowledged findings are in the results and do not raise a level.
    """

    level: Level
    checked_at: datetime
    results: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorSummary:
    """The summary of one run: `checked` counts all checks, `results` has those with a finding or reason."""

    level: Level
    checked: int
    ok: int
    results: tuple[CheckResult, ...]


def summarize(results: Sequence[CheckResult]) -> DoctorSummary:
    """Return the summary of a run."""
    return DoctorSummary(
        level=worst(result.level for result in results),
        checked=len(results),
        ok=sum(result.level is Level.OK for result in results),
        results=tuple(result for result in results if result.level is not Level.OK or result.findings),
    )


def run_doctor(*, checks: Sequence[Check]) -> DoctorReport:
    """Run `checks` on a connection of their own. Never raises."""
    with open_check_context() as context:
        return run_checks(context, checks=checks)


def run_checks(context: CheckContext, *, checks: Sequence[Check]) -> DoctorReport:
    """Run `checks` in an open context. Never raises."""
    results, acknowledged = list[CheckResult](), Acknowledgements.load(context)
    with progress("Checking", total=len(checks)) as bar:
        for check in checks:
            bar.advance(0, note=check.id)
            results.append(acknowledged.apply(run_check(check, context)))
            bar.advance()
    return DoctorReport(
        level=worst(result.level for result in results), checked_at=datetime.now(UTC), results=tuple(results)
    )
