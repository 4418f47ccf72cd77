"""Whether the documents that are made from the code are those of this code."""

from ops import runbook_index, settings_table
from ops.catalogue import CHECKS, JOBS
from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.levels import Level

ROOT = settings_table.ROOT


def up_to_date(probe: Probe) -> Told:
    """The pages of settings and runbooks. An installation without the documents has nothing to be out of date."""
    if not (ROOT / "docs").is_dir():
        return Told(says="this installation has no documents")
    stale = [str(path.relative_to(ROOT)) for path in (*settings_table.stale(), *runbook_index.stale())]
    pages = {*(check.runbook for check in CHECKS), *(job.runbook for job in JOBS)}
    missing = sorted(page for page in pages if not (ROOT / page).is_file())
    return Told(
        level=Level.WARNING if stale or missing else Level.OK,
        says=f"{len(stale)} pages are out of date, {len(missing)} runbooks are missing",
        figures={"out_of_date": stale, "missing": missing},
    )
