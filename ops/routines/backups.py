"""Backups: the newest one, and the last restore drill. The checks evaluate them."""

from ops.backup.errors import BackupsNotConfigured
from ops.backup.wal_archiving import describe_loss, read_wal_archiving
from ops.checks.context import CheckContext
from ops.doctor.own_backups import OwnBackups
from ops.errors import UnknownState
from ops.formatting import format_size
from ops.routines.sections import Section


def last_backup(context: CheckContext) -> Section:
    """Return the newest good backup, the number of backups, and what the loss of the database would cost."""
    own = _load(context)
    newest = own.newest_good()
    store = own.inventory.store.url
    loss = describe_loss(read_wal_archiving(context.connection), newest.name.taken_at if newest else None)
    if newest is None:
        summary = f"{store} holds no good backup of this database. {loss}"
        return Section(summary=summary, data={"backups": len(own.backups)})
    return Section(
        summary=f"{newest.name.text} has {format_size(newest.size)}; there are {len(own.backups)} in all. {loss}",
        data={
            "newest": newest.name.text,
            "taken_at": newest.name.taken_at,
            "bytes": newest.size,
            "backups": len(own.backups),
            "store": store,
        },
    )


def last_drill(context: CheckContext) -> Section:
    """Return the result of the last restore drill, its duration, and the data loss that it measured."""
    own = _load(context)
    last = max(own.inventory.reports(own.backups, "drill"), key=lambda report: report.stored_at, default=None)
    if last is None:
        return Section(summary="no restore drill has run yet", data={"backups": len(own.backups)})
    problems = f": {'; '.join(last.problems)}" if last.problems else ""
    measured = {name: value for name in ("rto_seconds", "rpo_seconds") if (value := last.number(name)) is not None}
    return Section(
        summary=f"the drill of {last.at:%Y-%m-%d %H:%M} UTC {'succeeded' if last.ok else 'failed'}{problems}",
        data={"at": last.at, **measured},
    )


def _load(context: CheckContext) -> OwnBackups:
    """Load the database's backups. Raises `UnknownState` if none are configured, and `StorageUnavailable`."""
    try:
        return OwnBackups.load(context)
    except BackupsNotConfigured as error:
        raise UnknownState(error.detail) from error
