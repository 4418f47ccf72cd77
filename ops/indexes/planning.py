"""What would mend the findings of the index doctor, put in order: what is broken first, what is to go last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from app.database import said
from app.repositories.statement import Statement
from ops.checks import statistics
from ops.checks.indexes import bloat, corruption, expected, foreign_keys, overlap, unused, validity
from ops.checks.indexes.cases import Case
from ops.checks.indexes.reading import Reading, read
from ops.checks.indexes.steps import Step
from ops.checks.probe import Probe
from ops.findings import CannotJudge
from ops.levels import Level
from ops.progress import progress

Cases = Callable[[Probe, Reading], Iterable[Case]]

# In this order they are planned: what makes searches wrong, what is missing, what is slow, what is too much.
SOURCES: dict[str, Cases] = {
    corruption.CHECK: corruption.cases,
    validity.CHECK: validity.cases,
    expected.CHECK: expected.cases,
    foreign_keys.CHECK: foreign_keys.cases,
    statistics.CHECK: lambda probe, reading: statistics.cases(probe),
    bloat.CHECK: bloat.cases,
    overlap.DUPLICATE: lambda probe, reading: overlap.duplicates(reading),
    overlap.REDUNDANT: lambda probe, reading: overlap.prefixes(reading),
    unused.CHECK: unused.cases,
}
_ONE_INDEX = (corruption.CHECK, bloat.CHECK)  # these look at each index by itself, and read it

IDENTITY = Statement(
    "ops.database_identity",
    """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, d.datname AS name, d.oid,
       current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS is_replica, now() AS now
  FROM pg_database d WHERE d.datname = current_database()""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Which database a plan is for: the server's own number, the name, and the name's oid, which a new one changes."""

    system: str
    name: str
    oid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A finding that a plan does not mend, and why."""

    check: str
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order in which they are applied. `made_at` is by the database's clock, `version` as 180006."""

    made_at: datetime
    database: Database
    version: int
    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Where we are: `now` by its clock, `version` of its server as 180006. A replica takes no changes."""

    database: Database
    version: int
    now: datetime
    is_replica: bool


def where(probe: Probe) -> Here:
    """Which database this is."""
    (row,) = IDENTITY.all(probe.connection, {})
    database = Database(system=row.system, name=row.name, oid=row.oid)
    return Here(database=database, version=row.version, now=row.now, is_replica=row.is_replica)


def make_plan(probe: Probe, *, only: Sequence[str] = (), all_tables: bool = False) -> Plan:
    """Plan what the checks suggest, or those in `only` (ids of `SOURCES`). On our own tables, unless `all_tables`.

    A check that cannot judge is named in `left_out`, and so is what only a person can decide.
    """
    here = where(probe)
    reading, found, left_out = read(probe), list[Step](), list[LeftOut]()
    for finding in reading.unread():
        left_out.append(LeftOut(check="indexes", what=finding.what, why="it could not be judged"))
    chosen = [check for check in SOURCES if check in only or not only]
    with progress("Planning", total=len(chosen)) as bar:
        for check in chosen:
            bar.advance(0, note=check)
            for case in _cases(probe, reading, check):
                if isinstance(case, LeftOut):
                    left_out.append(case)
                elif case.step is None:
                    why = "it could not be judged" if case.finding.level is Level.UNKNOWN else "a person has to decide"
                    left_out.append(LeftOut(check=check, what=case.finding.what, why=why))
                else:
                    found.append(case.step)
            bar.advance()
    steps = list(_settled(found, all_tables, left_out))
    return Plan(
        made_at=here.now,
        database=here.database,
        version=here.version,
        steps=tuple(steps),
        left_out=tuple(left_out),
    )


def stands(probe: Probe, step: Step) -> bool:
    """Whether the finding that `step` mends is still there: the same check would plan the same statements.

    Raises `CannotJudge` where the check cannot tell any more.
    """
    reading = read(probe)
    if step.table in reading.locked:
        raise CannotJudge(f"A session holds {step.table} locked, or waits to.", remedy="flask ops locks")
    if step.check in _ONE_INDEX:
        reading = replace(reading, indexes=tuple(each for each in reading.indexes if each.sql_name == step.index))
    cases = SOURCES[step.check](probe, reading) if step.check in SOURCES else ()
    return any(case.step is not None and case.step.identity == step.identity for case in cases)


def _cases(probe: Probe, reading: Reading, check: str) -> Iterator[Case | LeftOut]:
    try:
        yield from SOURCES[check](probe, reading)
    except CannotJudge as error:
        yield LeftOut(check=check, what=error.reason, why=f"it could not be judged; {error.remedy}")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        yield LeftOut(check=check, what=f"PostgreSQL answered: {said(error)}", why="it could not be judged")


def _settled(found: list[Step], all_tables: bool, left_out: list[LeftOut]) -> Iterator[Step]:
    """Each index once, nothing that another step makes needless, and never both of two indexes that do one work."""
    going = {step.index for step in found if step.drops}
    made = {step.table for step in found if step.builds and step.check in (expected.CHECK, validity.CHECK)}
    done: set[tuple[str, ...]] = set()
    for step in found:
        if step.sql in done:
            continue
        if not step.ours and not all_tables:
            why = "its table is not one of Parley's; --all-tables plans it too"
        elif not step.owned:
            why = "this role does not own the table: as its owner, or a superuser"
        elif step.relies_on in going:
            why = f"{step.relies_on} is to go as well; plan again afterwards"
        elif step.index in going and not step.drops:
            why = "it is to be dropped"
        elif step.check == foreign_keys.CHECK and step.table in made:
            why = "an index that this plan builds may serve it; plan again afterwards"
        else:
            done.add(step.sql)
            yield step
            continue
        left_out.append(LeftOut(check=step.check, what=step.why, why=why))
