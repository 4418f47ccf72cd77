"""Running one check."""

import logging
import re
import time
from dataclasses import dataclass

from psycopg2 import errors as pg
from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.logs import redact
from ops.checks.context import STATEMENT_TIMEOUT, CheckContext
from ops.checks.declaration import Check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.levels import Level, worst

_log = logging.getLogger("parley.ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check.

    `reason` says why the state could not be determined, or not completely; `remedy` is what makes it possible.
    """

    check: str
    question: str
    level: Level
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    remedy: str | None = None
    runbook: str = ""
    milliseconds: int = 0


def run_check(check: Check, context: CheckContext) -> CheckResult:
    """Run `check`. Never raises: the result carries the error."""
    started = time.monotonic()
    findings, reason, remedy = list[Finding](), None, None
    try:
        for finding in check.function(context):
            findings.append(finding)  # one by one, so that an error later keeps them
    except UnknownState as error:
        reason, remedy = error.reason, error.remedy
    except DBAPIError as error:
        reason, remedy = _explain(error)
        connection = context.open_connection
        if error.connection_invalidated or (connection is not None and connection.invalidated):
            context.open_connection, context.connection_error = None, driver_message(error)
    except Exception as error:
        # A defect of one check must not stop the others.
        _log.exception("check %s failed", check.id)
        reason = f"The check itself failed: {type(error).__name__}: {redact(str(error))}"
    levels = [finding.level for finding in findings] + ([] if reason is None else [Level.UNKNOWN])
    return CheckResult(
        check=check.id,
        question=check.question,
        level=worst(levels),
        findings=tuple(findings),
        reason=reason,
        remedy=remedy,
        runbook=check.runbook,
        milliseconds=round((time.monotonic() - started) * 1000),
    )


def _explain(error: DBAPIError) -> tuple[str, str | None]:
    """Return the reason for PostgreSQL's error, and a remedy."""
    message = driver_message(error)
    if isinstance(error.orig, pg.InsufficientPrivilege):
        if re.search(r"permission denied for (?:table|sequence|schema|view)", message):
            return f"A privilege is missing: {message}.", "flask ops doctor --only connection.privileges"
        return f"A privilege is missing: {message}.", "GRANT pg_monitor TO the role of DATABASE_DIRECT_URL"
    if isinstance(error.orig, pg.UndefinedTable | pg.UndefinedColumn):
        reason = (
            "A table or column is missing: the database is at another revision than this code, or the search_path"
            " does not include the schema."
        )
        return reason, "flask ops doctor --only migrations"
    if isinstance(error.orig, pg.QueryCanceled):
        return f"PostgreSQL took longer than {STATEMENT_TIMEOUT.total_seconds():g} s.", "flask ops locks"
    return f"PostgreSQL reported: {message}.", None
