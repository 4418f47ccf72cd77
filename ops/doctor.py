"""The doctor: asks every check, and says of each what it found, or why it could not judge."""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg2 import errors as pg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database import direct_connection, said
from app.logs import redact
from app.metrics.care import record_examination
from app.services.container import services
from ops.catalogue import CHECKS
from ops.checks.probe import PATIENCE, Probe, set_patience
from ops.declarations import Check, load
from ops.findings import CannotJudge, Finding
from ops.levels import Level, worst
from ops.progress import progress

_log = logging.getLogger("parley.ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one check. `reason` says why it could not be judged, or not to its end, and `remedy` what would help
    then.
    """

    check: str
    asks: str
    level: Level
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    remedy: str | None = None
    runbook: str = ""
    milliseconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All answers, in the catalogue's order. `level` is the worst of them."""

    level: Level
    examined_at: datetime
    answers: tuple[Answer, ...]


def select(only: Sequence[str] = (), *, thorough: bool = False, checks: Sequence[Check] = CHECKS) -> list[Check]:
    """The checks with those ids or groups; without any, all but the thorough ones, unless `thorough`.

    Raises `LookupError` with what is known, for an unknown one.
    """
    known = {check.id for check in checks} | {check.group for check in checks}
    if unknown := [name for name in only if name not in known]:
        raise LookupError(f"There is no check {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    if only:
        chosen = [check for check in checks if check.id in only or check.group in only]
        named = {check.id for check in checks} & set(only)
        return [check for check in chosen if thorough or not check.thorough or check.id in named]
    return [check for check in checks if thorough or not check.thorough]


def examine(*, checks: Sequence[Check]) -> Examination:
    """Ask `checks`, one after the other, on one connection of its own. Never raises."""
    with probing() as probe:
        return examine_by(probe, checks=checks)


def examine_by(probe: Probe, *, checks: Sequence[Check]) -> Examination:
    """As `examine`, by a probe that is there already."""
    answers = []
    with progress("Examining", total=len(checks)) as bar:
        for check in checks:
            bar.advance(0, note=check.id)
            answers.append(_ask(check, probe))
            bar.advance()
    return Examination(
        level=worst(answer.level for answer in answers), examined_at=datetime.now(UTC), answers=tuple(answers)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is kept of an examination that the clock asked for: `answers` has those that were not simply ok."""

    level: Level
    asked: int
    ok: int
    answers: tuple[Answer, ...]


def routine() -> Examined:
    """All but the thorough checks, as the clock asks for them: recorded in the metrics."""
    return _recorded("checks", select())


def thorough_routine() -> Examined:
    """The thorough checks, as the clock asks for them once a day: recorded beside the others."""
    return _recorded("checks_thorough", [check for check in CHECKS if check.thorough])


def _recorded(place: str, checks: Sequence[Check]) -> Examined:
    examination = examine(checks=checks)
    record_examination(
        place,
        {answer.check: answer.level.exit_code for answer in examination.answers},
        {answer.check: [finding.level for finding in answer.findings] for answer in examination.answers},
    )
    told = tuple(answer for answer in examination.answers if answer.level is not Level.OK)
    return Examined(
        level=examination.level,
        asked=len(examination.answers),
        ok=len(examination.answers) - len(told),
        answers=told,
    )


@contextmanager
def probing() -> Iterator[Probe]:
    """What checks look at, with a connection if there can be one."""
    settings = services().settings
    with ExitStack() as stack:
        try:
            probe = Probe(settings, _looking(stack))
        except Exception as error:  # also of the embedded server, which starts when it is first used
            probe = Probe(settings, away=said(error))
        yield probe


def _looking(stack: ExitStack) -> Connection:
    """A connection that only reads. One that lay in a pool may have broken meanwhile; the next is a new one."""
    for is_last in (False, True):
        opening = direct_connection()
        connection = opening.__enter__()
        stack.callback(_leave, opening)
        try:
            connection.exec_driver_sql("SELECT set_config('default_transaction_read_only', 'on', false)")
            set_patience(connection, PATIENCE)
        except DBAPIError:
            if is_last:
                raise
        else:
            return connection
    raise AssertionError("unreachable")


def _leave(opening: AbstractContextManager[Connection]) -> None:
    try:
        opening.__exit__(None, None, None)
    except SQLAlchemyError:
        _log.debug("the doctor's connection ended before the doctor did")


def _ask(check: Check, probe: Probe) -> Answer:
    started = time.monotonic()
    findings, reason, remedy = list[Finding](), None, None
    try:
        for finding in load(check.where)(probe):
            findings.append(finding)  # what was found before it could go no further is kept
    except CannotJudge as error:
        reason, remedy = error.reason, error.remedy
    except DBAPIError as error:
        reason, remedy = _in_words(error)
        if error.connection_invalidated or (probe.opened is not None and probe.opened.invalidated):
            probe.opened, probe.away = None, said(error)
    except Exception as error:
        # A fault of the check's own must not keep the others from answering; it is told, and logged with its place.
        _log.exception("check %s failed", check.id)
        reason = f"The check itself failed: {type(error).__name__}: {redact(str(error))}"
    levels = [finding.level for finding in findings] + ([] if reason is None else [Level.UNKNOWN])
    return Answer(
        check=check.id,
        asks=check.asks,
        level=worst(levels),
        findings=tuple(findings),
        reason=reason,
        remedy=remedy,
        runbook=check.runbook,
        milliseconds=round((time.monotonic() - started) * 1000),
    )


def _in_words(error: DBAPIError) -> tuple[str, str | None]:
    """Why PostgreSQL did not answer, and what would let it."""
    if isinstance(error.orig, pg.InsufficientPrivilege):
        if re.search(r"permission denied for (?:table|sequence|schema|view)", said(error)):
            return f"A privilege is missing: {said(error)}.", "flask ops doctor --only connection.privileges"
        return f"A privilege is missing: {said(error)}.", "GRANT pg_monitor TO the account of DATABASE_DIRECT_URL"
    if isinstance(error.orig, pg.UndefinedTable | pg.UndefinedColumn):
        what = "A table or column is missing: the database is not at the revision of this code, or not where it looks."
        return what, "flask ops doctor --only migrations"
    if isinstance(error.orig, pg.QueryCanceled):
        return f"PostgreSQL took longer than {PATIENCE.total_seconds():g} s to answer.", "flask ops locks"
    return f"PostgreSQL answered: {said(error)}.", None
