"""Retention rules: the last backup of each of the last N days, weeks and months is kept, and a few others.

Periods without a backup do not count, so a clock that jumps, or a month without backups, deletes no older ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.config.storage import Backups
from ops.backup.names import BackupName

CLOCK_TOLERANCE = timedelta(minutes=5)  # tolerated difference of two clocks; a later date means a wrong clock
DAMAGED_KEPT = timedelta(days=7)  # a damaged backup is kept this long, for an analysis


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup with its known `problem`, or None, and the time of its last successful drill."""

    name: BackupName
    problem: str | None = None
    drilled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a backup and its reason."""

    name: BackupName
    keep: bool
    reason: str


def decide(candidates: Iterable[Candidate], keep: Backups, now: datetime) -> list[Decision]:
    """Return one decision per backup, newest first. The rules apply to each source separately."""
    by_source: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_source.setdefault(candidate.name.source, []).append(candidate)
    decisions = [decision for group in by_source.values() for decision in _decide(group, keep, now)]
    return sorted(decisions, key=lambda decision: decision.name, reverse=True)


def latest_expiry(taken_at: datetime, keep: Backups) -> datetime:
    """Return the latest time at which a backup taken at `taken_at` is pruned, if daily backups and drills continue.

    Without them it is kept longer: the newest good backup and the last drilled one are never pruned.
    """
    spans = (
        timedelta(days=keep.keep_daily),
        timedelta(weeks=keep.keep_weekly + 1),
        timedelta(days=31 * (keep.keep_monthly + 1)),
    )
    return taken_at + max(spans)


def _decide(candidates: Sequence[Candidate], keep: Backups, now: datetime) -> list[Decision]:
    past = [candidate for candidate in candidates if candidate.name.taken_at <= now + CLOCK_TOLERANCE]
    good = sorted((candidate for candidate in past if candidate.problem is None), key=_name, reverse=True)
    reasons = _period_reasons(good, keep)
    if good:
        reasons.setdefault(good[0].name, "the newest good backup")
    drilled = max((candidate for candidate in candidates if candidate.drilled_at), key=_drilled_at, default=None)
    if drilled is not None:
        reasons.setdefault(drilled.name, "the last successfully drilled backup")
    return [_decide_one(candidate, reasons.get(candidate.name), bool(good), now) for candidate in candidates]


def _decide_one(candidate: Candidate, reason: str | None, good_exists: bool, now: datetime) -> Decision:
    name = candidate.name
    if reason is not None:
        return Decision(name, True, reason)
    if name.taken_at > now + CLOCK_TOLERANCE:
        return Decision(name, True, "dated in the future, so its age is unknown")
    if candidate.problem is None:
        return Decision(name, False, "not the last backup of a day, week or month that is kept")
    if not good_exists:
        return Decision(name, True, f"damaged ({candidate.problem}), but no backup is good")
    if now - name.taken_at < DAMAGED_KEPT:
        return Decision(name, True, f"damaged ({candidate.problem}); kept for a week for an analysis")
    return Decision(name, False, f"damaged: {candidate.problem}")


def _period_reasons(good: Sequence[Candidate], keep: Backups) -> dict[BackupName, str]:
    """Return the last backup of each kept day, week and month, with that reason. `good` is sorted newest first."""
    reasons: dict[BackupName, str] = {}
    for count, period, label in (
        (keep.keep_daily, lambda moment: f"{moment:%Y-%m-%d}", "of the day"),
        (keep.keep_weekly, lambda moment: f"{moment:%G-W%V}", "of the week"),
        (keep.keep_monthly, lambda moment: f"{moment:%Y-%m}", "of the month"),
    ):
        for name, value in _last_of_periods(good, period, count):
            reasons[name] = f"{reasons[name]}, {label} {value}" if name in reasons else f"the last {label} {value}"
    return reasons


def _last_of_periods(
    good: Sequence[Candidate], period: Callable[[datetime], str], count: int
) -> list[tuple[BackupName, str]]:
    last: dict[str, BackupName] = {}
    for candidate in good:
        last.setdefault(period(candidate.name.taken_at.astimezone(UTC)), candidate.name)
    return [(name, value) for value, name in list(last.items())[:count]]


def _name(candidate: Candidate) -> BackupName:
    return candidate.name


def _drilled_at(candidate: Candidate) -> datetime:
    assert candidate.drilled_at is not None  # noqa: S101  # the caller filters
    return candidate.drilled_at
