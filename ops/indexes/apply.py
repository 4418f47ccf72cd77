"""A plan is applied: one step at a time, each looked at again before it begins, and told of before and after."""

import enum
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.database import direct_connection, said
from app.repositories.statement import Statement
from app.services.container import services
from ops.checks.indexes.steps import Step
from ops.checks.probe import Probe
from ops.doctor import probing
from ops.errors import AnotherRunIsUnderWay
from ops.findings import CannotJudge
from ops.indexes.leftovers import Before, left_by, remember
from ops.indexes.planning import Plan, stands, where
from ops.indexes.preconditions import disk_suffices, no_old_transaction, quiet_hours, same_database
from ops.indexes.running import how_far, is_concurrent, run
from ops.levels import Level, worst
from ops.locks import lock_key
from ops.progress import Bar, progress

ALONE = "indexes.work"  # the lock; that of the job indexes.apply is another, which ends with its worker
LEAST_SECONDS = 60.0  # a CONCURRENTLY statement that is cut off sooner leaves more harm than it found
CLEANING_SECONDS = 60.0

LOCK = Statement("ops.index_lock", "SELECT pg_try_advisory_lock(%(key)s) AS taken, pg_backend_pid() AS pid")
SEEN = Statement(
    "ops.index_seen",
    """
SELECT pg_relation_size(c.oid) AS bytes, i.indisvalid AS valid, pg_get_indexdef(c.oid) AS definition,
       pg_indexes_size(i.indrelid) AS table_indexes_bytes
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.oid = to_regclass(%(name)s)""",
)
ANALYZED = Statement(
    "ops.table_seen",
    """
SELECT c.reltuples AS rows, s.n_mod_since_analyze AS changed
  FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = to_regclass(%(name)s)""",
)


class Outcome(enum.StrEnum):
    DONE = "done"
    WOULD_BE_DONE = "would be done"  # in a dry run
    NOT_NEEDED = "not needed any more"
    HELD_BACK = "held back"  # something has to change first
    FAILED = "failed"


_LEVELS = {Outcome.HELD_BACK: Level.WARNING, Outcome.FAILED: Level.CRITICAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken:
    """What became of one step. `before` and `after` say of its index, or table, what there was to see; `left_behind`
    are the invalid indexes that it left and that could not be dropped."""

    check: str
    index: str
    sql: tuple[str, ...]
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    undo: tuple[str, ...] = ()
    cleaned: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a plan; `level` is critical if a step failed, a warning if one was held back."""

    database: str
    planned_at: datetime
    dry_run: bool
    level: Level
    steps: tuple[StepTaken, ...]


def apply(
    *,
    plan: Plan,
    max_minutes: float = 30,
    now: bool = False,
    assume_disk: int | None = None,
    dry_run: bool = False,
) -> Applied:
    """Apply `plan` within `max_minutes`: what does not fit any more is held back.

    `now`: also outside of INDEX_APPLY_HOURS. `assume_disk`: bytes that are free where the database runs, if that cannot
    be seen from here. `dry_run` looks at everything and changes nothing.

    Raises `InvalidInput` for a plan of another database, or too old a one; `CannotJudge` where it may not begin at all;
    `AnotherRunIsUnderWay`.
    """
    settings = services().settings
    with direct_connection() as work, probing() as probe:
        same_database(probe, plan)
        row = LOCK.one(work, {"key": lock_key(ALONE)})
        if row is None or not row.taken:
            raise AnotherRunIsUnderWay("Another plan is being applied, or the last step of one; wait for its end.")
        hours = None if now or dry_run else settings.database.index_hours
        under_way = _Run(work, probe, row.pid, time.monotonic() + 60 * max_minutes, hours, assume_disk, dry_run)
        under_way.may_begin()
        taken = tuple(under_way.steps(plan))
    level = worst(_LEVELS.get(step.outcome, Level.OK) for step in taken)
    return Applied(database=plan.database.name, planned_at=plan.made_at, dry_run=dry_run, level=level, steps=taken)


@dataclass
class _Run:
    """`work` holds the lock and does the steps, so the lock lasts as long as the work, also when this process does not.
    `probe` looks."""

    work: Connection
    probe: Probe
    pid: int
    until: float
    hours: str | None
    assume_disk: int | None
    dry_run: bool

    def may_begin(self) -> None:
        """Raises `CannotJudge` if nothing may begin at this moment."""
        here = where(self.probe)
        if here.is_replica:
            raise CannotJudge("This is a replica: it takes no changes.", remedy="Apply the plan to the primary")
        if self.hours is not None and not quiet_hours(self.hours, here.now):
            raise CannotJudge(
                f"It is {here.now:%H:%M} UTC, and plans are applied during {self.hours} (INDEX_APPLY_HOURS).",
                remedy="Wait, or say --now",
            )
        no_old_transaction(self.probe, [self.pid])

    def steps(self, plan: Plan) -> Iterator[StepTaken]:
        stopped: str | None = None
        with progress("Applying the plan", total=len(plan.steps)) as bar:
            for step in plan.steps:
                bar.advance(0, note=step.index or step.table)
                if stopped is None:
                    taken, stopped = self._step(step, bar)
                else:
                    taken = _told(step, Outcome.HELD_BACK, stopped)
                bar.advance()
                yield taken

    def _step(self, step: Step, bar: Bar) -> tuple[StepTaken, str | None]:
        """What became of it, and why no other may follow, if that is so."""
        try:
            if not stands(self.probe, step):
                return _told(step, Outcome.NOT_NEEDED, "the check would not plan this any more"), None
            left = self.until - time.monotonic()
            if left < LEAST_SECONDS or left < 60 * step.minutes:
                return _told(step, Outcome.HELD_BACK, f"{max(left, 0) / 60:.0f} minutes are left for it"), None
            self.may_begin()
            disk_suffices(self.probe, step, self.assume_disk)
            if self.dry_run:
                return _told(step, Outcome.WOULD_BE_DONE, before=self._seen(step)), None
            return self._do(step, bar)
        except CannotJudge as error:
            return _told(step, Outcome.HELD_BACK, f"{error.reason} {error.remedy or ''}".strip()), None
        except SQLAlchemyError as error:
            return _told(step, Outcome.HELD_BACK, f"it could not be looked at: {said(error)}"), _away(error)

    def _do(self, step: Step, bar: Bar) -> tuple[StepTaken, str | None]:
        seen, before, started = self._seen(step), remember(self.probe, step), time.monotonic()
        try:
            failure, stop = self._statements(step, bar)
        except Exception:  # such as a job's time that is over
            self._clean(step, before)
            raise
        cleaned, left = self._clean(step, before) if failure else ((), ())
        taken = _told(
            step,
            Outcome.FAILED if failure else Outcome.DONE,
            failure,
            seconds=round(time.monotonic() - started, 1),
            before=seen,
            after=self._seen(step),
            cleaned=cleaned,
            left_behind=left,
        )
        return taken, stop

    def _statements(self, step: Step, bar: Bar) -> tuple[str | None, str | None]:
        """Why it failed, and why no other may follow."""
        for sql in step.sql:
            left = self.until - time.monotonic()
            if left < LEAST_SECONDS and is_concurrent(sql):
                return f"no time was left for: {sql}", None
            try:
                ended = run(self.work, sql, seconds=left, tick=lambda: self._tell(step, bar))
            except KeyboardInterrupt:
                return "it was interrupted", "the run was interrupted"
            if ended.lost:
                self.work.invalidate()  # else closing it would fail, too
                return ended.error, "the session was lost"
            if ended.error is not None:
                return ended.error, None
        return None, None

    def _tell(self, step: Step, bar: Bar) -> None:
        try:
            bar.advance(0, note=f"{step.index}: {how_far(self.probe.connection, self.pid)}")
        except SQLAlchemyError:
            bar.advance(0, note=f"{step.index}: how far it is cannot be seen")

    def _clean(self, step: Step, before: Before) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What it left behind and was dropped, and what could not be: without our session we have no lock either."""
        cleaned, left = list[str](), list[str]()
        try:
            for index in left_by(self.probe, step, before):
                sql, failed = f"DROP INDEX CONCURRENTLY {index.sql_name}", self.work.invalidated
                if not failed:
                    failed = run(self.work, sql, seconds=CLEANING_SECONDS, tick=lambda: None).error is not None
                (left if failed else cleaned).append(index.sql_name)
        except (SQLAlchemyError, CannotJudge):
            left.append("unknown; flask ops index check will tell")
        return tuple(cleaned), tuple(left)

    def _seen(self, step: Step) -> dict[str, Any]:
        """What there is to see of its index, or of its table where it has none; nothing where it is not there."""
        statement, name = (SEEN, step.index) if step.index else (ANALYZED, step.table)
        try:
            row = statement.one(self.probe.connection, {"name": name})
        except (SQLAlchemyError, CannotJudge):
            return {}
        return dict(row._mapping) if row is not None else {}


def _told(step: Step, outcome: Outcome, reason: str | None = None, **more: Any) -> StepTaken:
    return StepTaken(
        check=step.check,
        index=step.index or step.table,
        sql=step.sql,
        outcome=outcome,
        reason=reason,
        undo=step.undo,
        **more,
    )


def _away(error: SQLAlchemyError) -> str | None:
    return "the database is away" if getattr(error, "connection_invalidated", False) else None
