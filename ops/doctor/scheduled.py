"""The jobs `doctor.run` and `doctor.run_thorough`: run checks, record their metrics, keep a summary."""

from collections.abc import Sequence

from app.metrics.doctor import record_check_results
from ops.checks.declaration import Check
from ops.doctor.registry import CHECKS, select_checks
from ops.doctor.run import DoctorSummary, run_doctor, summarize


def run_scheduled() -> DoctorSummary:
    """Run all checks but the thorough ones."""
    return run_and_record("checks", select_checks())


def run_scheduled_thorough() -> DoctorSummary:
    """Run the thorough checks."""
    return run_and_record("checks_thorough", [check for check in CHECKS if check.thorough])


def run_and_record(group: str, checks: Sequence[Check]) -> DoctorSummary:
    """Run `checks`, and replace the metrics of `group`, `checks` or `checks_thorough`, by their results."""
    report = run_doctor(checks=checks)
    record_check_results(
        group,
        {result.check: result.level.name.lower() for result in report.results},
        {
            result.check: [finding.level for finding in result.findings if not finding.is_acknowledged]
            for result in report.results
        },
    )
    return summarize(report.results)
