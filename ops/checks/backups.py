"""Backups: is there a new one, and has one been proven to be of use?"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.repositories.statement import Statement
from ops.backup.contents import read_origin
from ops.backup.errors import NotSetUp, StoreFailed
from ops.backup.inventory import Backup, Inventory
from ops.backup.names import source_of
from ops.backup.retention import AHEAD
from ops.backup.stores.opening import open_store
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

OLD, VERY_OLD = timedelta(hours=26), timedelta(hours=50)  # a day and some, two days and some
DRILL_OLD = timedelta(days=8)
SHOWN = 5  # backups that are not good, at most

YOUNGEST = Statement("backup.first_user", "SELECT min(created_at) AS at FROM users")


def recent(probe: Probe) -> Iterator[Finding]:
    """Whether there is a good backup of less than 26 hours ago, and none newer that is not good."""
    try:
        own = _Own(probe)
    except NotSetUp as error:
        yield Finding(level=Level.WARNING, what="Nobody backs this database up.", remedy=error.detail)
        return
    newest = own.inventory.newest_good(own.source, until=own.now + AHEAD)
    yield from _troubled(own, newest)
    if newest is None:
        yield from _none(probe, own)
    elif (age := own.now - newest.name.taken_at) > OLD:
        yield Finding(
            level=Level.CRITICAL if age > VERY_OLD else Level.WARNING,
            what=f"The newest good backup, {newest.name}, is {_hours(age)} old.",
            evidence={"hours": _number(age), "allowed_hours": _number(OLD), "place": own.inventory.store.place},
            remedy="flask ops jobs history --job backups.daily says why; then flask ops backup create",
        )


def drilled(probe: Probe) -> Iterator[Finding]:
    """Whether a restore drill of the last eight days proved a backup. Raises `CannotJudge` where none was due yet."""
    try:
        own = _Own(probe)
    except NotSetUp as error:
        raise CannotJudge("Nobody backs this database up, so there is nothing to prove.", remedy=error.detail) from None
    last = max(own.inventory.reports(own.backups, "drill"), key=lambda report: report.stored_at, default=None)
    if last is None:
        oldest = min((backup.name.taken_at for backup in own.backups), default=own.now)
        if own.now - oldest > DRILL_OLD:
            yield Finding(
                level=Level.WARNING,
                what="No backup has ever been proven by a restore drill.",
                evidence={"backups": len(own.backups)},
                remedy="flask ops backup drill",
            )
        else:
            raise CannotJudge(
                "No backup has been drilled yet; the clock does it once a week.",
                remedy="flask ops backup drill"
                if own.backups
                else "flask ops backup create, then flask ops backup drill",
            )
    elif last.at > own.now + AHEAD:
        raise CannotJudge(
            f"The last restore drill is dated in the future, {last.at:%Y-%m-%d %H:%M} UTC: a clock was wrong.",
            remedy="flask ops backup drill, once the clock is right",
        )
    elif not last.ok:
        yield Finding(
            level=Level.CRITICAL,
            what=f"The last restore drill failed: {'; '.join(last.problems)}",
            evidence={"at": last.at, "backup": last.details.get("name")},
            remedy="flask ops backup create, then flask ops backup drill",
        )
    elif (age := own.now - last.at) > DRILL_OLD:
        yield Finding(
            level=Level.WARNING,
            what=f"The last restore drill was {age.days} days ago.",
            evidence={"days": age.days, "allowed_days": DRILL_OLD.days},
            remedy="flask ops jobs history --job backups.weekly_drill says why; then flask ops backup drill",
        )


class _Own:
    """What the store holds of this database. Raises `NotSetUp`, and `CannotJudge` where the store is out of reach."""

    def __init__(self, probe: Probe) -> None:
        here = read_origin(probe.connection)
        self.now: datetime = here.taken_at
        self.source = source_of(here.system_identifier, here.database)
        try:
            self.inventory = Inventory.of(open_store(probe.settings, hasty=True))
        except StoreFailed as error:
            raise CannotJudge(error.detail, remedy="flask ops backup list") from error
        self.backups = [backup for backup in self.inventory.backups if backup.name.source == self.source]


def _troubled(own: _Own, newest: Backup | None) -> Iterator[Finding]:
    """Backups that somebody may rely on, and should not."""
    for backup in own.backups[:SHOWN]:
        if newest is not None and backup.name == newest.name:
            return
        if backup.name.taken_at > own.now + AHEAD:
            yield Finding(
                level=Level.WARNING,
                what=f"{backup.name} is dated in the future: a clock was wrong, and its age is not known.",
                evidence={"taken_at": backup.name.taken_at, "now": own.now},
                remedy="flask ops backup create, once the clock is right",
            )
        elif trouble := own.inventory.trouble(backup):
            yield Finding(
                level=Level.CRITICAL,
                what=f"{backup.name} is not good: {trouble}.",
                remedy="flask ops backup create, then flask ops backup drill",
            )


def _none(probe: Probe, own: _Own) -> Iterator[Finding]:
    row = YOUNGEST.one(probe.connection, {})
    young = row is None or row.at is None or own.now - row.at < OLD
    yield Finding(
        level=Level.WARNING if young else Level.CRITICAL,
        what=f"{own.inventory.store.place} holds no good backup of this database.",
        evidence={"backups": len(own.backups)},
        remedy="flask ops backup create",
    )


def _hours(age: timedelta) -> str:
    return f"{_number(age)} hours"


def _number(age: timedelta) -> int:
    return int(age.total_seconds() // 3600)
