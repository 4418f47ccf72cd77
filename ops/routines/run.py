"""Running a routine: every part of it, even if another part fails."""

import logging

from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.errors import ParleyError
from app.logs import redact
from ops.checks.context import CheckContext, open_check_context
from ops.doctor.registry import select_checks
from ops.doctor.run import run_checks
from ops.errors import UnknownState
from ops.levels import Level, worst
from ops.routines.registry import Part, Routine, routine_named
from ops.routines.sections import PartReport, RoutineReport, Section
from ops.runs.progress import progress

_log = logging.getLogger("parley.ops")


def daily() -> RoutineReport:
    """Run the daily routine."""
    return run_routine(routine_named("daily"))


def weekly() -> RoutineReport:
    """Run the weekly routine."""
    return run_routine(routine_named("weekly"))


def monthly() -> RoutineReport:
    """Run the monthly routine."""
    return run_routine(routine_named("monthly"))


def run_routine(routine: Routine) -> RoutineReport:
    """Run every part of `routine`. Never raises: the report carries the errors."""
    with open_check_context() as context, progress(f"The {routine.name} routine", total=len(routine.parts)) as bar:
        reports = list[PartReport]()
        for part in routine.parts:
            bar.advance(0, note=part.name)
            reports.append(_run_part(part, context))
            bar.advance()
    return RoutineReport(routine=routine.name, level=worst(report.level for report in reports), parts=tuple(reports))


def _run_part(part: Part, context: CheckContext) -> PartReport:
    checks = run_checks(context, checks=select_checks(part.checks) if part.checks else ())
    problems = tuple(result for result in checks.results if result.level is not Level.OK or result.findings)
    section = _section(part, context)
    ok = sum(result.level is Level.OK for result in checks.results)
    count = f"{ok} of {len(checks.results)} checks are ok"
    return PartReport(
        part=part.name,
        level=worst([section.level, checks.level]),
        summary="; ".join(filter(None, (section.summary, count if part.checks else ""))),
        checked=len(checks.results),
        results=problems,
        data=section.data,
        rows=section.rows,
    )


def _section(part: Part, context: CheckContext) -> Section:
    if part.function is None:
        return Section(summary="")
    try:
        return part.function(context)
    except UnknownState as error:
        data = {"remedy": error.remedy} if error.remedy else {}
        return Section(level=Level.UNKNOWN, summary=error.reason, data=data)
    except DBAPIError as error:
        return Section(level=Level.UNKNOWN, summary=f"PostgreSQL reported: {redact(driver_message(error))}")
    except ParleyError as error:
        return Section(level=Level.UNKNOWN, summary=error.detail)
    except Exception as error:  # a defect of one part must not stop the others
        _log.exception("the part %s of a routine failed", part.name)
        return Section(level=Level.UNKNOWN, summary=f"It failed: {type(error).__name__}: {redact(str(error))}")
