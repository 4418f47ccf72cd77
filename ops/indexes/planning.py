"""The plan: the steps that repair what the index checks find, in order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from sqlalchemy.exc import DBAPIError

from app.database import driver_message
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.errors import UnknownState
from ops.indexes.checks import bloat, corruption, expected, foreign_keys, overlap, statistics, unused, validity
from ops.indexes.findings import IndexFinding
from ops.indexes.snapshot import IndexSnapshot, read_indexes
from ops.indexes.steps import Step
from ops.levels import Level
from ops.runs.progress import progress

Source = Callable[[CheckContext, IndexSnapshot], Iterable[IndexFinding]]

# In the order of the plan: corrupt, invalid and missing indexes, then slow ones, then needless ones.
SOURCES: dict[str, Source] = {
    corruption.CHECK: corruption.index_findings,
    validity.CHECK: validity.index_findings,
    expected.CHECK: expected.index_findings,
    foreign_keys.CHECK: foreign_keys.index_findings,
    statistics.CHECK: lambda context, snapshot: statistics.index_findings(context),
    bloat.CHECK: bloat.index_findings,
    overlap.DUPLICATE: lambda context, snapshot: overlap.duplicate_findings(snapshot),
    overlap.REDUNDANT: lambda context, snapshot: overlap.redundant_findings(snapshot),
    unused.CHECK: unused.index_findings,
}
_ONE_INDEX = (corruption.CHECK, bloat.CHECK)  # these checks read each index by itself, which takes long
UNKNOWN = "its state is unknown"

IDENTITY = Statement(
    "ops.database_identity",
    """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, d.datname AS name, d.oid,
       current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS is_replica, now() AS now
  FROM pg_database d WHERE d.datname = current_database()""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The identity of a database."""

    system: Annotated[str, "System identifier of the server."]
    name: Annotated[str, "Name of the database."]
    oid: Annotated[int, "Its oid, which differs for a new database of the same name."]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A finding that the plan does not repair."""

    check: Annotated[str, "Name of the check."]
    message: Annotated[str, "The finding."]
    reason: Annotated[str, "Why it is not repaired."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan for the repair of indexes."""

    made_at: Annotated[datetime, "When it was made, by the database's clock."]
    database: Annotated[Database, "The database that it was made for."]
    version: Annotated[int, "Version number of the server, such as 180006."]
    steps: Annotated[tuple[Step, ...], "Steps in the order in which they are applied."]
    left_out: Annotated[tuple[LeftOut, ...], "Findings that the plan does not repair."]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedDatabase:
    """The database of a connection, with its time `now` and its server's version, such as 180006."""

    database: Database
    version: int
    now: datetime
    is_replica: bool


def connected_database(context: CheckContext) -> ConnectedDatabase:
    """Read which database the context is connected to."""
    (row,) = IDENTITY.all(context.connection, {})
    database = Database(system=row.system, name=row.name, oid=row.oid)
    return ConnectedDatabase(database=database, version=row.version, now=row.now, is_replica=row.is_replica)


def make_plan(context: CheckContext, *, only: Sequence[str] = (), all_tables: bool = False) -> Plan:
    """Plan the repairs of all checks in `SOURCES`, or of those in `only`. Without `all_tables`, only Parley's tables.

    Findings that need an operator's decision, and checks that cannot determine the state, are in `left_out`.
    """
    connected = connected_database(context)
    snapshot, planned, left_out = read_indexes(context), list[Step](), list[LeftOut]()
    for unreadable in snapshot.unreadable():
        left_out.append(LeftOut(check="indexes", message=unreadable.message, reason=UNKNOWN))
    checks = [check for check in SOURCES if check in only or not only]
    with progress("Planning", total=len(checks)) as bar:
        for check in checks:
            bar.advance(0, note=check)
            for finding in _findings(context, snapshot, check):
                if isinstance(finding, LeftOut):
                    left_out.append(finding)
                elif finding.step is None:
                    reason = UNKNOWN if finding.finding.level is Level.UNKNOWN else "an operator has to decide"
                    left_out.append(LeftOut(check=check, message=finding.finding.message, reason=reason))
                else:
                    planned.append(finding.step)
            bar.advance()
    steps = tuple(_without_conflicts(planned, all_tables, left_out))
    return Plan(
        made_at=connected.now,
        database=connected.database,
        version=connected.version,
        steps=steps,
        left_out=tuple(left_out),
    )


def is_still_needed(context: CheckContext, step: Step) -> bool:
    """Return whether the check of `step` would plan the same statements again.

    Raises `UnknownState` if the check cannot determine that.
    """
    snapshot = read_indexes(context)
    if step.table in snapshot.locked:
        raise UnknownState(
            f"A session holds an exclusive lock on {step.table}, or waits for one.", remedy="flask ops locks"
        )
    if step.check in _ONE_INDEX:
        indexes = tuple(index for index in snapshot.indexes if index.sql_name == step.index)
        snapshot = replace(snapshot, indexes=indexes)
    findings = SOURCES[step.check](context, snapshot) if step.check in SOURCES else ()
    return any(finding.step is not None and finding.step.identity == step.identity for finding in findings)


def _findings(context: CheckContext, snapshot: IndexSnapshot, check: str) -> Iterator[IndexFinding | LeftOut]:
    try:
        yield from SOURCES[check](context, snapshot)
    except UnknownState as error:
        yield LeftOut(check=check, message=error.reason, reason=f"{UNKNOWN}; {error.remedy}")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        yield LeftOut(check=check, message=f"PostgreSQL reported: {driver_message(error)}", reason=UNKNOWN)


def _without_conflicts(planned: list[Step], all_tables: bool, left_out: list[LeftOut]) -> Iterator[Step]:
    """Yield each step once, without those that another step makes needless or that would drop both of two twins.

    Appends the other steps to `left_out`.
    """
    dropped = {step.index for step in planned if step.drops}
    built_on = {step.table for step in planned if step.builds and step.check in (expected.CHECK, validity.CHECK)}
    yielded: set[tuple[str, ...]] = set()
    for step in planned:
        if step.sql in yielded:
            continue
        if not step.is_parley_table and not all_tables:
            reason = "its table is not one of Parley's; plan it with --all-tables"
        elif not step.is_owner:
            reason = "this role does not own the table; plan as its owner or as a superuser"
        elif step.relies_on in dropped:
            reason = f"{step.relies_on} is dropped as well; plan again afterwards"
        elif step.index in dropped and not step.drops:
            reason = "it is dropped by another step"
        elif step.check == foreign_keys.CHECK and step.table in built_on:
            reason = "an index that this plan builds may support it; plan again afterwards"
        else:
            yielded.add(step.sql)
            yield step
            continue
        left_out.append(LeftOut(check=step.check, message=step.reason, reason=reason))
