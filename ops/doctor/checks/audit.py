"""The audit: whether its events are sealed, and unchanged since then."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from app.repositories import audit_seals as sql
from app.storage.errors import StorageError
from ops.backup.errors import BackupDamaged, BackupsNotConfigured
from ops.backup.inventory import Backup
from ops.backup.marks import Mark, read_mark
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.own_backups import OwnBackups
from ops.errors import UnknownState
from ops.levels import Level
from ops.runs.audit_seals import known_keys
from ops.runs.audit_verification import verify_audit

NEWEST_SEALS = 40  # that are verified at every run
NEWEST_BACKUPS = 3  # whose manifests are compared at every run
UNSEALED_FOR = timedelta(hours=1)

_REMEDY = "Who changed the database? Restore a backup beside it and compare the audit, as the runbook says"


@check("audit.seals", "Are the newest audit events sealed and unchanged?", severity=Level.CRITICAL)
def check_newest_seals(context: CheckContext) -> Iterator[Finding]:
    """Verify the newest seals, and find events that are not sealed."""
    yield from _unsealed(context)
    yield from _compare_with_manifests(context, NEWEST_BACKUPS)
    yield from _verify(context, NEWEST_SEALS)


@check("audit.history", "Is the whole audit as it was sealed?", severity=Level.CRITICAL, thorough=True)
def check_all_seals(context: CheckContext) -> Iterator[Finding]:
    """Verify all seals, and compare them with the manifests of all backups."""
    yield from _compare_with_manifests(context, None)
    yield from _verify(context, None)


def _verify(context: CheckContext, newest: int | None) -> Iterator[Finding]:
    result = verify_audit(context.connection, known_keys(context.settings.auth), newest=newest)
    for problem in result.problems:
        yield Finding(
            level=Level.CRITICAL,
            object=problem,
            message=f"The audit was changed: {problem}.",
            evidence={"seals": result.seals, "events": result.events},
            remedy=_REMEDY,
        )
    if result.unknown_keys:
        raise UnknownState(
            f"The keys of {result.unverified} seals are not set, so their events cannot be verified "
            f"({', '.join(sorted(result.unknown_keys))}).",
            remedy="Add the earlier values of AUDIT_KEY, or of JWT_SECRET_KEY without it, to AUDIT_PREVIOUS_KEYS",
        )


def _unsealed(context: CheckContext) -> Iterator[Finding]:
    waiting = sql.OLDEST_UNSEALED.one(context.connection, {})
    if waiting is None or waiting.ended_at is None or (age := context.now - waiting.ended_at) <= UNSEALED_FOR:
        return
    yield Finding(
        level=Level.WARNING,
        object="unsealed",
        message=f"{waiting.events} audit events are not sealed, the oldest for {age.total_seconds() / 3600:.0f} hours.",
        evidence={"events": waiting.events, "allowed_hours": UNSEALED_FOR.total_seconds() / 3600},
        remedy="flask ops jobs run audit.seal",
    )


def _compare_with_manifests(context: CheckContext, newest: int | None) -> Iterator[Finding]:
    """Compare the seals with those in manifests. An unavailable store is a finding of `backup.recent`, not of this."""
    try:
        own = OwnBackups.load(context, quick=True)
        mark = read_mark(
            context.connection, context.connection.exec_driver_sql("SELECT current_database()").scalar_one()
        )
        for backup in [each for each in own.backups if _is_of_this_history(each, mark)][:newest]:
            yield from _compare_with_manifest(context, own, backup)
    except (BackupsNotConfigured, StorageError):
        return


def _is_of_this_history(backup: Backup, mark: Mark | None) -> bool:
    """Return whether the backup's seals must be in this database. After a switch, only those of later backups are."""
    if mark is None:
        return True
    return backup.name.text == mark.backup or backup.name.taken_at > mark.at


def _compare_with_manifest(context: CheckContext, own: OwnBackups, backup: Backup) -> Iterator[Finding]:
    try:
        expected = own.inventory.manifest(backup).contents.audit_seal
    except BackupDamaged:  # a finding of backup.recent
        return
    if expected is None:
        return
    actual = sql.GET.one(context.connection, {"number": expected.number})
    if actual is None or bytes(actual.hash).hex() != expected.hash:
        problem = "is missing" if actual is None else "is a different one"
        yield Finding(
            level=Level.CRITICAL,
            object=f"seal {expected.number}",
            message=f"The audit was changed: the seal {expected.number} {problem}; the backup {backup.name} has it.",
            evidence={"backup_taken_at": backup.name.taken_at.astimezone(UTC), "now": datetime.now(UTC)},
            remedy=_REMEDY,
        )
