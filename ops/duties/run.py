"""Doing a duty: every part of it, whatever becomes of the others."""

import logging

from sqlalchemy.exc import DBAPIError

from app.database import said
from app.errors import ParleyError
from app.logs import redact
from ops.catalogue import DUTIES
from ops.checks.probe import Probe
from ops.declarations import Duty, Part, load
from ops.doctor import examine_by, probing, select
from ops.duties.parts import DutyReport, PartReport, Told
from ops.findings import CannotJudge
from ops.levels import Level, worst
from ops.progress import progress

_log = logging.getLogger("parley.ops")


def daily() -> DutyReport:
    """The daily duty, as the clock asks for it."""
    return do(named("daily"))


def weekly() -> DutyReport:
    """The weekly duty, as the clock asks for it."""
    return do(named("weekly"))


def monthly() -> DutyReport:
    """The monthly duty, as the clock asks for it."""
    return do(named("monthly"))


def named(name: str) -> Duty:
    """The duty of that name. Raises `KeyError`."""
    return {duty.name: duty for duty in DUTIES}[name]


def do(duty: Duty) -> DutyReport:
    """Do every part of `duty`. Never raises for what a part meets: that is in its report."""
    with probing() as probe, progress(f"The {duty.name} duty", total=len(duty.parts)) as bar:
        parts = []
        for part in duty.parts:
            bar.advance(0, note=part.name)
            parts.append(_do(part, probe))
            bar.advance()
    return DutyReport(duty=duty.name, level=worst(part.level for part in parts), parts=tuple(parts))


def _do(part: Part, probe: Probe) -> PartReport:
    examination = examine_by(probe, checks=select(part.checks) if part.checks else ())
    answers = tuple(answer for answer in examination.answers if answer.level is not Level.OK)
    told = _told(part, probe) if part.where else Told(says="")
    asked = f"{len(examination.answers) - len(answers)} of {len(examination.answers)} checks are ok"
    return PartReport(
        part=part.name,
        level=worst([told.level, examination.level]),
        says="; ".join(filter(None, (told.says, asked if part.checks else ""))),
        asked=len(examination.answers),
        answers=answers,
        figures=told.figures,
        rows=told.rows,
    )


def _told(part: Part, probe: Probe) -> Told:
    try:
        told: Told = load(part.where)(probe)
    except CannotJudge as error:
        told = Told(level=Level.UNKNOWN, says=error.reason, figures={"remedy": error.remedy} if error.remedy else {})
    except DBAPIError as error:
        told = Told(level=Level.UNKNOWN, says=f"PostgreSQL answered: {redact(said(error))}")
    except ParleyError as error:
        told = Told(level=Level.UNKNOWN, says=error.detail)
    except Exception as error:  # one part must not keep the others from being told
        _log.exception("the part %s of a duty failed", part.name)
        told = Told(level=Level.UNKNOWN, says=f"It failed: {type(error).__name__}: {redact(str(error))}")
    return told
