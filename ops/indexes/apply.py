"""Applying a plan: one step at a time, each checked again before it begins, with the state before and after it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.container import current_settings
from app.database import driver_message, own_session
from app.repositories.statement import Statement
from ops.checks.context import CheckContext, open_check_context
from ops.errors import AlreadyRunning, UnknownState
from ops.indexes.apply_report import LEVELS, ApplyReport, Outcome, StepResult, step_result
from ops.indexes.cleanup import TableIndexes, indexes_left_by, table_indexes
from ops.indexes.planning import Plan, connected_database, is_still_needed
from ops.indexes.preconditions import (
    is_within_hours,
    require_disk_space,
    require_no_old_transaction,
    require_same_database,
)
from ops.indexes.statement_run import build_progress, is_concurrent, run_statement
from ops.indexes.step_state import read_state
from ops.indexes.steps import Step
from ops.levels import Level, worst
from ops.runs.locks import lock_key
from ops.runs.progress import ProgressBar, progress

# Not that of the job indexes.apply, which ends with its worker: this one lasts as long as a step runs on the server.
LOCK_NAME = "indexes.work"
MIN_SECONDS = 60.0  # a CONCURRENTLY statement that is cut off sooner leaves an invalid index for little work
CLEANUP_SECONDS = 60.0

LOCK = Statement("ops.index_lock", "SELECT pg_try_advisory_lock(%(key)s) AS acquired, pg_backend_pid() AS pid")


def apply(
    *,
    plan: Plan,
    max_minutes: float = 30,
    now: bool = False,
    assume_disk: int | None = None,
    dry_run: bool = False,
) -> ApplyReport:
    """Apply `plan`. Steps that do not fit into `max_minutes` are held back.

    `now` ignores INDEX_APPLY_HOURS. `assume_disk` is the free disk space of the database's host in bytes, where it
    cannot be read from here. `dry_run` checks everything and changes nothing.

    Raises `InvalidInput` for a plan of another database or one that is too old, `UnknownState` if a precondition of the
    whole plan is not met, `OwnSessionRequired`, `AlreadyRunning`.
    """
    settings = current_settings()
    with own_session() as work, open_check_context() as context:
        require_same_database(context, plan)
        row = LOCK.one(work, {"key": lock_key(LOCK_NAME)})
        if row is None or not row.acquired:
            raise AlreadyRunning("Another plan is being applied, or its last step still runs; wait until it ends.")
        hours = None if now or dry_run else settings.database.index_hours
        run = _Run(work, context, row.pid, time.monotonic() + 60 * max_minutes, hours, assume_disk, dry_run)
        run.require_start_allowed()
        results = tuple(run.results(plan))
    level = worst(LEVELS.get(result.outcome, Level.OK) for result in results)
    return ApplyReport(
        database=plan.database.name, planned_at=plan.made_at, dry_run=dry_run, level=level, steps=results
    )


@dataclass
class _Run:
    """One application of a plan.

    `work` holds the lock and runs the steps, so the lock lasts as long as a step runs on the server, even if this
    process dies. `context` reads.
    """

    work: Connection
    context: CheckContext
    pid: int
    deadline: float
    hours: str | None
    assume_disk: int | None
    dry_run: bool

    def require_start_allowed(self) -> None:
        """Raise `UnknownState` if no step may start now."""
        database = connected_database(self.context)
        if database.is_replica:
            raise UnknownState(
                "This database is a replica, which is read-only.", remedy="Apply the plan to the primary"
            )
        if self.hours is not None and not is_within_hours(self.hours, database.now):
            raise UnknownState(
                f"It is {database.now:%H:%M} UTC, and plans are applied during {self.hours} (INDEX_APPLY_HOURS).",
                remedy="Wait, or use --now",
            )
        require_no_old_transaction(self.context, [self.pid])

    def results(self, plan: Plan) -> Iterator[StepResult]:
        """Run the steps and yield their results; after a fatal failure the rest is held back."""
        stop_reason: str | None = None
        with progress("Applying the plan", total=len(plan.steps)) as bar:
            for step in plan.steps:
                bar.advance(0, note=step.index or step.table)
                if stop_reason is None:
                    result, stop_reason = self._run_step(step, bar)
                else:
                    result = step_result(step, Outcome.HELD_BACK, stop_reason)
                bar.advance()
                yield result

    def _run_step(self, step: Step, bar: ProgressBar) -> tuple[StepResult, str | None]:
        """Return the result, and the reason to stop after this step, if there is one."""
        try:
            if not is_still_needed(self.context, step):
                return step_result(step, Outcome.NOT_NEEDED, "the check does not report the problem any more"), None
            left = self.deadline - time.monotonic()
            if left < MIN_SECONDS or left < 60 * step.minutes:
                return step_result(step, Outcome.HELD_BACK, f"{max(left, 0) / 60:.0f} minutes are left for it"), None
            self.require_start_allowed()
            require_disk_space(self.context, step, self.assume_disk)
            if self.dry_run:
                return step_result(step, Outcome.WOULD_BE_DONE, before=read_state(self.context, step)), None
            return self._execute(step, bar)
        except UnknownState as error:
            return step_result(step, Outcome.HELD_BACK, f"{error.reason} {error.remedy or ''}".strip()), None
        except SQLAlchemyError as error:
            result = step_result(step, Outcome.HELD_BACK, f"it could not be checked: {driver_message(error)}")
            return result, _connection_lost(error)

    def _execute(self, step: Step, bar: ProgressBar) -> tuple[StepResult, str | None]:
        state, indexes, started = read_state(self.context, step), table_indexes(self.context, step), time.monotonic()
        try:
            failure, stop_reason = self._run_statements(step, bar)
        except Exception:  # such as the time limit of the job
            self._clean_up(step, indexes)
            raise
        cleaned, left = self._clean_up(step, indexes) if failure else ((), ())
        result = step_result(
            step,
            Outcome.FAILED if failure else Outcome.DONE,
            failure,
            seconds=round(time.monotonic() - started, 1),
            before=state,
            after=read_state(self.context, step),
            cleaned=cleaned,
            left_behind=left,
        )
        return result, stop_reason

    def _run_statements(self, step: Step, bar: ProgressBar) -> tuple[str | None, str | None]:
        """Return the reason of a failure, and the reason to stop after it."""
        for sql in step.sql:
            left = self.deadline - time.monotonic()
            if left < MIN_SECONDS and is_concurrent(sql):
                return f"no time was left for: {sql}", None
            try:
                run = run_statement(self.work, sql, seconds=left, tick=lambda: self._show_progress(step, bar))
            except KeyboardInterrupt:
                return "it was interrupted", "the run was interrupted"
            if run.lost:
                self.work.invalidate()  # closing a broken connection would fail
                return run.error, "the session was lost"
            if run.error is not None:
                return run.error, None
        return None, None

    def _show_progress(self, step: Step, bar: ProgressBar) -> None:
        try:
            bar.advance(0, note=f"{step.index}: {build_progress(self.context.connection, self.pid)}")
        except SQLAlchemyError:
            bar.advance(0, note=f"{step.index}: progress unknown")

    def _clean_up(self, step: Step, before: TableIndexes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Drop the invalid indexes of a failed step. Returns those dropped and those left.

        Nothing is dropped if the session is lost, because the lock is lost with it.
        """
        cleaned, left = list[str](), list[str]()
        try:
            for index in indexes_left_by(self.context, step, before):
                sql, failed = f"DROP INDEX CONCURRENTLY {index.sql_name}", self.work.invalidated
                if not failed:
                    run = run_statement(self.work, sql, seconds=CLEANUP_SECONDS, tick=lambda: None)
                    failed = run.error is not None
                (left if failed else cleaned).append(index.sql_name)
        except (SQLAlchemyError, UnknownState):
            left.append("unknown: see flask ops index check")
        return tuple(cleaned), tuple(left)


def _connection_lost(error: SQLAlchemyError) -> str | None:
    return "the connection to the database was lost" if getattr(error, "connection_invalidated", False) else None
