"""The doctor: asks every check, and says of each what it found, or why it could not judge."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import current_app
from psycopg2 import errors as pg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database import direct_connection, said
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
    """What came of one check. `reason` says why it could not be judged, and `remedy` what would help then."""

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
    answers = []
    with _probe() as probe, progress("Examining", total=len(checks)) as bar:
        for check in checks:
            bar.advance(0, note=check.id)
            answers.append(_ask(check, probe))
            bar.advance()
    return Examination(
        level=worst(answer.level for answer in answers), examined_at=datetime.now(UTC), answers=tuple(answers)
    )


def routine() -> Examination:
    """All but the thorough checks, as the clock asks for them: recorded in the metrics."""
    return _recorded(select())


def thorough_routine() -> Examination:
    """All checks, as the clock asks for them once a day."""
    return _recorded(select(thorough=True))


def _recorded(checks: Sequence[Check]) -> Examination:
    examination = examine(checks=checks)
    record_examination(
        {answer.check: answer.level.exit_code for answer in examination.answers},
        {answer.check: [finding.level for finding in answer.findings] for answer in examination.answers},
    )
    return examination


@contextmanager
def _probe() -> Iterator[Probe]:
    """With a connection if there can be one."""
    settings = services().settings
    try:
        opening = direct_connection()
        connection = opening.__enter__()
    except Exception as error:  # also of the embedded server, which starts when it is first used
        yield Probe(settings, away=said(error))
        return
    try:
        connection.exec_driver_sql("SELECT set_config('default_transaction_read_only', 'on', false)")
        set_patience(connection, PATIENCE)
        yield Probe(settings, connection)
    finally:
        try:
            opening.__exit__(None, None, None)
        except SQLAlchemyError:
            current_app.logger.debug("the doctor's connection ended before the doctor did")


def _ask(check: Check, probe: Probe) -> Answer:
    started = time.monotonic()
    level, findings, reason, remedy = Level.OK, tuple[Finding, ...](), None, None
    try:
        findings = tuple(load(check.where)(probe))
        level = worst(finding.level for finding in findings)
    except CannotJudge as error:
        level, reason, remedy = Level.UNKNOWN, error.reason, error.remedy
    except DBAPIError as error:
        level, (reason, remedy) = Level.UNKNOWN, _in_words(error)
        if error.connection_invalidated or (probe.opened is not None and probe.opened.invalidated):
            probe.opened, probe.away = None, said(error)
    except Exception as error:
        # A fault of the check's own must not keep the others from answering; it is told, and logged with its place.
        _log.exception("check %s failed", check.id)
        level, reason = Level.UNKNOWN, f"The check itself failed: {type(error).__name__}: {error}"
    return Answer(
        check=check.id,
        asks=check.asks,
        level=level,
        findings=findings,
        reason=reason,
        remedy=remedy,
        runbook=check.runbook,
        milliseconds=round((time.monotonic() - started) * 1000),
    )


def _in_words(error: DBAPIError) -> tuple[str, str | None]:
    """Why PostgreSQL did not answer, and what would let it."""
    if isinstance(error.orig, pg.InsufficientPrivilege):
        return f"A privilege is missing: {said(error)}.", "GRANT pg_monitor TO the account of DATABASE_DIRECT_URL"
    if isinstance(error.orig, pg.QueryCanceled):
        return f"PostgreSQL took longer than {PATIENCE.total_seconds():g} s to answer.", "flask ops locks"
    return f"PostgreSQL answered: {said(error)}.", None
