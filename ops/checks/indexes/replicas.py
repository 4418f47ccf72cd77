"""What the replica of DATABASE_REPLICA_URL has counted: a scan there is not in the primary's statistics.

A physical replica has the primary's oids, so each index is known again by its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import engine_options, said
from app.repositories.statement import Statement
from ops.checks.indexes.reading import Index, Reading
from ops.checks.probe import PATIENCE, Probe, set_patience
from ops.checks.statistics_age import counting_since
from ops.findings import CannotJudge

IDENTITY = Statement(
    "ops.replica_identity",
    """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, oid::int8 AS oid,
       pg_is_in_recovery() AS is_replica
  FROM pg_database WHERE datname = current_database()""",
)
SCANS_15 = Statement(
    "ops.replica_scans", "SELECT indexrelid::int8 AS oid, idx_scan AS scans, NULL AS last FROM pg_stat_all_indexes"
)
SCANS = Statement(
    "ops.replica_scans",
    "SELECT indexrelid::int8 AS oid, idx_scan AS scans, last_idx_scan AS last FROM pg_stat_all_indexes",
)


def counted_together(probe: Probe, reading: Reading, url: str) -> tuple[Reading, datetime]:
    """`reading` with the replica's scans added to the primary's, and since when the replica has been counting.

    Raises `CannotJudge` where the replica does not answer, or is none of this database.
    """
    try:
        with _connected(probe, url) as connection:
            there = Probe(probe.settings, connection)
            _same(probe, there)
            statement = SCANS_15 if there.version < 16 else SCANS
            counts = {row.oid: row for row in statement.all(connection, {})}
            since = counting_since(there)
    except SQLAlchemyError as error:
        raise CannotJudge(
            f"The replica of DATABASE_REPLICA_URL does not answer: {said(error).rstrip('.?')}.",
            remedy="See that it runs, or correct DATABASE_REPLICA_URL",
        ) from error
    indexes = []
    for index in reading.indexes:
        row = counts.get(index.oid)
        scans, last = (row.scans or 0, row.last) if row is not None else (0, None)
        lasts = [moment for moment in (index.last_scan, last) if moment is not None]
        indexes.append(replace(index, scans=index.scans + scans, last_scan=max(lasts, default=None)))
    return replace(reading, indexes=tuple[Index, ...](indexes)), since


@contextmanager
def _connected(probe: Probe, url: str) -> Iterator[Connection]:
    options = engine_options(probe.settings.database)["connect_args"]
    engine = create_engine(url, poolclass=NullPool, connect_args=options, hide_parameters=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        set_patience(connection, PATIENCE)
        yield connection


def _same(probe: Probe, there: Probe) -> None:
    (ours,), (its,) = IDENTITY.all(probe.connection, {}), IDENTITY.all(there.connection, {})
    if (its.system, its.oid) != (ours.system, ours.oid) or not its.is_replica:
        what = "the primary itself" if not its.is_replica and its.system == ours.system else "another database"
        raise CannotJudge(
            f"DATABASE_REPLICA_URL leads to {what}, so what the replica counted is not known.",
            remedy="Correct DATABASE_REPLICA_URL",
        )
