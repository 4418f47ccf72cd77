"""The way to the database: whether it answers, quickly, and is one that Parley can work with."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.database import said
from app.errors import ParleyError
from app.extensions import db
from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

ROUND_TRIPS = 7  # of which the middle one counts
SLOW, VERY_SLOW = timedelta(milliseconds=10), timedelta(milliseconds=100)  # a turn makes two of them, a list one
OLDEST = 15
LAME, WRONG = timedelta(seconds=2), timedelta(seconds=10)  # of clocks; from WRONG on, fresh tokens are refused

PING = Statement("ops.ping", "SELECT 1 AS one")
CLOCK = Statement("ops.clock", "SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds")
# `reset_val` is what a connection begins with, whatever this one has set since.
WRITABLE = Statement(
    "ops.writable",
    """
SELECT pg_is_in_recovery() AS recovering,
       (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only""",
)

# What libpq says, and what helps then.
_REMEDIES = (
    ("password authentication failed", "Correct the account or password in {variable}"),
    ("does not exist", "Create it, or correct {variable}: CREATE DATABASE ...; then `flask db upgrade`"),
    ("too many clients", "flask ops pool, from where somebody is still connected; or raise max_connections"),
    ("remaining connection slots", "flask ops pool, from where somebody is still connected; or raise max_connections"),
    ("starting up", "Wait until it has recovered: its log says how far it is"),
    ("no encryption", "Add ?sslmode=require to {variable}"),
    ("certificate", "Correct sslmode or sslrootcert in {variable}"),
    (
        "unsupported startup parameter",
        "Let the pooler pass or ignore `options`: ignore_startup_parameters in pgbouncer.ini",
    ),
)


@contextmanager
def pooled(probe: Probe) -> Iterator[Connection]:
    """A connection by DATABASE_URL, as the web servers use it, in AUTOCOMMIT. Raises `CannotJudge` without one."""
    with _by_the_pool(probe) as opened:
        if opened is None:
            raise CannotJudge(
                f"The database cannot be reached by DATABASE_URL: {(probe.pooled_away or '').rstrip('.?')}.",
                remedy="flask ops doctor --only connection",
            )
        yield opened


@contextmanager
def _by_the_pool(probe: Probe) -> Iterator[Connection | None]:
    if probe.opened is None and probe.settings.database.direct_url is None:
        probe.pooled_away = probe.away
    if probe.pooled_away is not None:
        yield None
        return
    try:
        opened = _answering(db.engine)
    except (SQLAlchemyError, ParleyError) as error:
        probe.pooled_away = said(error)
        yield None
        return
    with opened:
        yield opened


def _answering(engine: Engine) -> Connection:
    """A connection that has just answered. One that lay in the pool may have broken; the next is a new one."""
    for is_last in (False, True):
        opened = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            PING.one(opened, {})
        except DBAPIError:
            opened.close()
            if is_last:
                raise
        else:
            return opened
    raise AssertionError("unreachable")


def reachable(probe: Probe) -> Iterator[Finding]:
    """One finding for each of the two URLs by which the database does not answer."""
    direct = probe.settings.database.direct_url
    if probe.opened is None:
        yield _away("DATABASE_DIRECT_URL" if direct else "DATABASE_URL", direct, probe.away)
    if direct is not None:
        with _by_the_pool(probe):
            pass
        if probe.pooled_away is not None:
            yield _away("DATABASE_URL", None, probe.pooled_away)


def latency(probe: Probe) -> Iterator[Finding]:
    """A finding if the middle of a few round trips takes longer than `SLOW`."""
    took = []
    for _ in range(ROUND_TRIPS):
        begun = time.perf_counter()
        PING.one(probe.connection, {})
        took.append(time.perf_counter() - begun)
    middle = timedelta(seconds=statistics.median(took))
    if middle >= SLOW:
        yield Finding(
            level=Level.CRITICAL if middle >= VERY_SLOW else Level.WARNING,
            what=f"A round trip to the database takes {middle / timedelta(milliseconds=1):.1f} ms; a turn makes two.",
            evidence={"middle": middle, "best": timedelta(seconds=min(took)), "worst": timedelta(seconds=max(took))},
            remedy="Run Parley near its database, or see what keeps that busy: flask ops slow, flask ops locks",
        )


def version(probe: Probe) -> Iterator[Finding]:
    """A finding if PostgreSQL is older than what Parley is made for."""
    if probe.version < OLDEST:
        yield Finding(
            level=Level.CRITICAL,
            what=f"The server is PostgreSQL {probe.version}; Parley needs {OLDEST} or newer.",
            evidence={"version": probe.version, "needed": OLDEST},
            remedy="Upgrade the server: pg_upgrade, or dump and restore",
        )


def writable(probe: Probe) -> Iterator[Finding]:
    """A finding if nothing can be written there: a standby, or a database that is set to be read."""
    row = WRITABLE.one(probe.connection, {})
    if row is None or not (row.recovering or row.read_only):
        return
    what = "is a standby" if row.recovering else "is set to be read only (default_transaction_read_only)"
    yield Finding(
        level=Level.CRITICAL,
        what=f"The database {what}, so no turn can be begun.",
        evidence={"in_recovery": row.recovering, "read_only": row.read_only},
        remedy="Point DATABASE_URL to the primary"
        if row.recovering
        else "See who set it, and why: SELECT * FROM pg_db_role_setting; SHOW default_transaction_read_only",
    )


def clock(probe: Probe) -> Iterator[Finding]:
    """A finding if this host's clock and the database's differ by more than the round trip can explain."""
    best = (float("inf"), 0.0)
    for _ in range(ROUND_TRIPS):
        before = time.time()
        row = CLOCK.one(probe.connection, {})
        after = time.time()
        if row is not None:
            best = min(best, (after - before, row.seconds - (before + after) / 2))
    round_trip, ahead = best
    certain = timedelta(seconds=max(0.0, abs(ahead) - round_trip / 2))
    if certain >= LAME:
        yield Finding(
            level=Level.CRITICAL if certain >= WRONG else Level.WARNING,
            what=f"The database's clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's.",
            evidence={"ahead_seconds": round(ahead, 3), "round_trip_seconds": round(round_trip, 6)},
            remedy="Set both by NTP; on each: timedatectl status, or chronyc tracking",
        )


def _away(variable: str, url: str | None, why: str) -> Finding:
    url = url or str(db.engine.url.render_as_string())
    where = make_url(url)
    remedy = next((text for words, text in _REMEDIES if words in why), "See that the server runs there, and its log")
    evidence: dict[str, Any] = {"host": where.host, "port": where.port, "database": where.database}
    return Finding(
        level=Level.CRITICAL,
        what=f"The database does not answer by {variable}: {why.rstrip('.?')}.",
        evidence=evidence,
        remedy=remedy.format(variable=variable),
    )
