"""The section of the monthly routine about generated files and runbooks."""

from ops.catalogue.jobs import JOBS
from ops.checks.context import CheckContext
from ops.doctor.registry import CHECKS
from ops.generate.files import ROOT, stale_files
from ops.levels import Level
from ops.routines.sections import Section


def up_to_date(context: CheckContext) -> Section:
    """Report generated files that are out of date and missing runbooks. Without `docs/`, as in an image, all is ok."""
    if not (ROOT / "docs").is_dir():
        return Section(summary="this installation has no documents")
    stale = stale_files()
    pages = {*(check.runbook for check in CHECKS), *(job.runbook for job in JOBS)}
    missing = sorted(page for page in pages if not (ROOT / page).is_file())
    return Section(
        level=Level.WARNING if stale or missing else Level.OK,
        summary=f"{len(stale)} pages are out of date, {len(missing)} runbooks are missing",
        data={"out_of_date": stale, "missing": missing},
    )
