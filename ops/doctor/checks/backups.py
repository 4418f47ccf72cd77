"""Backups: whether there is a recent one, and whether a restore drill has succeeded."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories.statement import Statement
from app.storage.errors import StorageUnavailable
from ops.backup.errors import BackupsNotConfigured
from ops.backup.inventory import Backup
from ops.backup.marks import unfinished_restores
from ops.backup.retention import CLOCK_TOLERANCE
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.own_backups import OwnBackups
from ops.errors import UnknownState
from ops.levels import Level

OLD, VERY_OLD = timedelta(hours=26), timedelta(hours=50)  # one and two missed daily backups, and two hours
DRILL_OLD = timedelta(days=8)
ORPHAN_AGE = timedelta(minutes=10)  # a backup stores its manifest right after its dump
SHOWN = 5  # newest backups that are checked

FIRST_USER = Statement("backup.first_user", "SELECT min(created_at) AS at FROM users")


@check("backup.recent", "Is there a good backup that is less than 26 hours old?", severity=Level.CRITICAL)
def check_recent_backup(context: CheckContext) -> Iterator[Finding]:
    """Check the age of the newest good backup, and find newer ones with problems."""
    try:
        own = _load(context)
    except BackupsNotConfigured as error:
        yield Finding(
            level=Level.WARNING, message="No backups are configured.", object="BACKUP_URL", remedy=error.detail
        )
        return
    newest = own.newest_good()
    yield from _bad_backups(own, newest)
    yield from _orphans(own)
    if newest is None:
        yield _no_backup(context, own)
    elif (age := own.now - newest.name.taken_at) > OLD:
        yield Finding(
            level=Level.CRITICAL if age > VERY_OLD else Level.WARNING,
            message=f"The newest good backup, {newest.name}, is {_whole_hours(age)} hours old.",
            object="age",
            evidence={"hours": _whole_hours(age), "allowed_hours": _whole_hours(OLD), "store": own.inventory.store.url},
            remedy="flask ops backup create. Why was none taken? flask ops jobs history --job backups.daily",
        )


@check("backup.drill", "Did a restore drill succeed within the last eight days?", severity=Level.CRITICAL)
def check_last_drill(context: CheckContext) -> Iterator[Finding]:
    """Check the result and age of the last restore drill, and the backup that it restored.

    Raises `UnknownState` if none was due yet.
    """
    try:
        own = _load(context)
    except BackupsNotConfigured as error:
        raise UnknownState("No backups are configured, so there is nothing to drill.", remedy=error.detail) from None
    drills = [(report, backup) for backup in own.backups for report in own.inventory.reports([backup], "drill")]
    last, drilled = max(drills, key=lambda drill: drill[0].stored_at, default=(None, None))
    if last is not None and last.ok and drilled is not None:
        yield from _damaged_since(own, drilled)
    if last is None:
        oldest = min((backup.name.taken_at for backup in own.backups), default=own.now)
        if own.now - oldest > DRILL_OLD:
            yield Finding(
                level=Level.WARNING,
                message="No restore drill has ever run.",
                object="drill",
                evidence={"backups": len(own.backups)},
                remedy="flask ops backup drill",
            )
        else:
            raise UnknownState(
                "No restore drill has run yet; the beat starts one each week.",
                remedy="flask ops backup drill"
                if own.backups
                else "flask ops backup create, then flask ops backup drill",
            )
    elif last.at > own.now + CLOCK_TOLERANCE:
        raise UnknownState(
            f"The last restore drill is dated in the future, {last.at:%Y-%m-%d %H:%M} UTC: a clock was wrong.",
            remedy="flask ops backup drill, once the clock is right",
        )
    elif not last.ok:
        yield Finding(
            level=Level.CRITICAL,
            message=f"The last restore drill failed: {'; '.join(last.problems)}",
            object="drill",
            evidence={"at": last.at, "backup": last.details.get("name")},
            remedy="flask ops backup create, then flask ops backup drill",
        )
    elif (age := own.now - last.at) > DRILL_OLD:
        yield Finding(
            level=Level.WARNING,
            message=f"The last restore drill was {age.days} days ago.",
            object="drill",
            evidence={"days": age.days, "allowed_days": DRILL_OLD.days},
            remedy="flask ops backup drill. Why did none run? flask ops jobs history --job backups.weekly_drill",
        )


@check("backup.restores", "Was every restore on this server completed?", severity=Level.WARNING)
def check_unfinished_restores(context: CheckContext) -> Iterator[Finding]:
    """Find databases that a restore left which was cut off, or which found differences."""
    for unfinished in unfinished_restores(context.connection):
        yield Finding(
            level=Level.WARNING,
            message=f"The restore of {unfinished.backup} into {unfinished.database} was not completed.",
            object=unfinished.database,
            evidence={"begun_at": unfinished.begun_at},
            remedy=unfinished.remove,
        )


@check("backup.files", "Does the newest backup have the contents of all files?", severity=Level.WARNING)
def check_files_of_backup(context: CheckContext) -> Iterator[Finding]:
    """Find contents of files that the newest good backup could not copy. Raises `UnknownState` without a backup."""
    try:
        own = _load(context)
    except BackupsNotConfigured as error:
        raise UnknownState("No backups are configured.", remedy=error.detail) from None
    newest = own.newest_good()
    if newest is None:
        raise UnknownState("There is no good backup.", remedy="flask ops backup create")
    files = own.inventory.manifest(newest).files
    if files is not None and files.missing:
        yield Finding(
            level=Level.WARNING,
            message=f"{files.missing} of {files.contents} contents of files could not be copied into {newest.name}.",
            object="files",
            evidence={"backup": newest.name.text, "missing": files.missing, "contents": files.contents},
            remedy="Did the store of files answer, and does it have them? flask ops doctor --only files.contents. Once"
            " it does: flask ops backup create",
        )


def _load(context: CheckContext) -> OwnBackups:
    try:
        return OwnBackups.load(context, quick=True)
    except StorageUnavailable as error:
        raise UnknownState(error.detail, remedy="flask ops backup list") from error


def _bad_backups(own: OwnBackups, newest: Backup | None) -> Iterator[Finding]:
    """Find problems of the backups that are newer than the newest good one."""
    for backup in own.backups[:SHOWN]:
        if newest is not None and backup.name == newest.name:
            if own.inventory.changed_since_proof(backup):
                yield _changed(backup)
            return
        if backup.name.taken_at > own.now + CLOCK_TOLERANCE:
            yield Finding(
                level=Level.WARNING,
                message=f"{backup.name} is dated in the future: a clock was wrong, so its age is unknown.",
                object=str(backup.name),
                evidence={"taken_at": backup.name.taken_at, "now": own.now},
                remedy="Is the clock right now? If so: flask ops backup create",
            )
        elif problem := own.inventory.problem(backup):
            yield Finding(
                level=Level.CRITICAL,
                message=f"{backup.name} is not good: {problem}.",
                object=str(backup.name),
                remedy="flask ops backup create, then flask ops backup drill",
            )


def _damaged_since(own: OwnBackups, drilled: Backup) -> Iterator[Finding]:
    """Find damage of the backup that was drilled successfully: the drill then proves nothing."""
    if problem := own.inventory.problem(drilled):
        yield Finding(
            level=Level.CRITICAL,
            message=f"{drilled.name}, which the last restore drill proved, is not good any more: {problem}.",
            object=str(drilled.name),
            remedy="flask ops backup create, then flask ops backup drill",
        )
    elif own.inventory.changed_since_proof(drilled):
        yield _changed(drilled)


def _changed(backup: Backup) -> Finding:
    return Finding(
        level=Level.WARNING,
        message=f"The dump of {backup.name} was written again since it was taken or found good.",
        object=str(backup.name),
        evidence={"written_at": None if backup.dump is None else backup.dump.stored_at},
        remedy=f"flask ops backup verify {backup.name}: an unchanged copy passes",
    )


def _orphans(own: OwnBackups) -> Iterator[Finding]:
    """Find dumps of this database without a manifest, apart from those of a backup that may be running."""
    for name, file in own.inventory.orphan_dumps:
        if name.source == own.source and own.now - file.stored_at >= ORPHAN_AGE:
            yield Finding(
                level=Level.WARNING,
                message=f"{name} is a dump without a manifest: it cannot be verified, drilled or restored by Parley.",
                object=str(name),
                evidence={"bytes": file.size, "stored_at": file.stored_at},
                remedy="Was its manifest deleted, and can you put it back? If not, take a new backup: flask ops backup"
                " create; the job backups.prune deletes the dump two days after it was stored",
            )


def _no_backup(context: CheckContext, own: OwnBackups) -> Finding:
    row = FIRST_USER.one(context.connection, {})
    is_new = row is None or row.at is None or own.now - row.at < OLD
    return Finding(
        level=Level.WARNING if is_new else Level.CRITICAL,
        object="age",
        message=f"{own.inventory.store.url} holds no good backup of this database.",
        evidence={"backups": len(own.backups)},
        remedy="flask ops backup create",
    )


def _whole_hours(age: timedelta) -> int:
    return int(age.total_seconds() // 3600)
