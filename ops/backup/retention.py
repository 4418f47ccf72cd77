"""Which backups are kept: the last one of each of so many days, weeks and months, and whatever must never go.

Days without a backup do not count, so a clock that jumps, or a month without backups, costs none of the old ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.config_keeping import Backups
from ops.backup.names import BackupName

AHEAD = timedelta(minutes=5)  # that two clocks may differ; what is dated later was taken by a wrong clock
EVIDENCE = timedelta(days=7)  # for which a backup that is not good is kept, so that somebody can look into it


@dataclass(frozen=True, slots=True)
class Candidate:
    """`trouble` is what is wrong with it, None if nothing is known to be."""

    name: BackupName
    trouble: str | None = None
    drilled_at: datetime | None = None  # when a drill of it last went well


@dataclass(frozen=True, slots=True)
class Decision:
    name: BackupName
    keep: bool
    why: str


def decide(candidates: Iterable[Candidate], keep: Backups, now: datetime) -> list[Decision]:
    """What to do with each backup, the newest first; those of each source by themselves."""
    by_source: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_source.setdefault(candidate.name.source, []).append(candidate)
    decisions = [decision for group in by_source.values() for decision in _decide(group, keep, now)]
    return sorted(decisions, key=lambda decision: decision.name, reverse=True)


def kept_until(taken_at: datetime, keep: Backups) -> datetime:
    """The latest moment at which a backup taken then is pruned, as long as one is taken every day and drills go on.

    (The newest good one and the last one that a drill proved stay until there is another.)
    """
    spans = (
        timedelta(days=keep.keep_daily),
        timedelta(weeks=keep.keep_weekly + 1),
        timedelta(days=31 * (keep.keep_monthly + 1)),
    )
    return taken_at + max(spans)


def _decide(candidates: Sequence[Candidate], keep: Backups, now: datetime) -> list[Decision]:
    past = sorted((each for each in candidates if each.name.taken_at <= now + AHEAD), key=_name, reverse=True)
    good = [each for each in past if each.trouble is None]
    why = _slots(good, keep)
    if good:
        why.setdefault(good[0].name, "the newest good one")
    drilled = max((each for each in candidates if each.drilled_at), key=_drilled_at, default=None)
    if drilled is not None:
        why.setdefault(drilled.name, "the last one that a drill proved")
    return [_judged(each, why.get(each.name), bool(good), now) for each in candidates]


def _judged(candidate: Candidate, why: str | None, others: bool, now: datetime) -> Decision:
    name = candidate.name
    if why is not None:
        return Decision(name, True, why)
    if name.taken_at > now + AHEAD:
        return Decision(name, True, "dated in the future, so its age is not known")
    if candidate.trouble is None:
        return Decision(name, False, "no day, week or month needs it")
    if not others:
        return Decision(name, True, f"not good ({candidate.trouble}), but there is no good one")
    if now - name.taken_at < EVIDENCE:
        return Decision(name, True, f"not good ({candidate.trouble}); kept for a week to be looked into")
    return Decision(name, False, f"not good: {candidate.trouble}")


def _slots(good: Sequence[Candidate], keep: Backups) -> dict[BackupName, str]:
    """Of those, newest first: the ones that stand for a day, week or month, and for which."""
    why: dict[BackupName, str] = {}
    for count, period, said in (
        (keep.keep_daily, lambda moment: f"{moment:%Y-%m-%d}", "of the day"),
        (keep.keep_weekly, lambda moment: f"{moment:%G-W%V}", "of the week"),
        (keep.keep_monthly, lambda moment: f"{moment:%Y-%m}", "of the month"),
    ):
        for name, which in _last_of_each(good, period, count):
            why[name] = f"{why[name]}, {said} {which}" if name in why else f"the last {said} {which}"
    return why


def _last_of_each(
    good: Sequence[Candidate], period: Callable[[datetime], str], count: int
) -> list[tuple[BackupName, str]]:
    seen: dict[str, BackupName] = {}
    for each in good:
        seen.setdefault(period(each.name.taken_at.astimezone(UTC)), each.name)
    return [(name, which) for which, name in list(seen.items())[:count]]


def _name(candidate: Candidate) -> BackupName:
    return candidate.name


def _drilled_at(candidate: Candidate) -> datetime:
    assert candidate.drilled_at is not None  # noqa: S101  # only such are asked
    return candidate.drilled_at
