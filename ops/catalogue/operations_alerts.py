"""Alerts on jobs, backups, the archive, indexes, transactions and disks."""

from app.metrics.archive import ARCHIVE_OLDEST_ELIGIBLE_AGE
from app.metrics.backups import (
    BACKUP_LAST_SUCCESS_TIMESTAMP,
    RESTORE_DRILL_SUCCESS,
    RESTORE_DRILL_TIMESTAMP,
)
from app.metrics.database import (
    DB_OLDEST_TRANSACTION,
    DB_TRANSACTION_IDS_USED_RATIO,
    DISK_FREE_BYTES,
    DISK_SIZE_BYTES,
)
from app.metrics.doctor import INDEX_FINDINGS
from app.metrics.external_gauges import EXTERNAL_GAUGE_TIMESTAMP
from app.metrics.jobs import BEAT_LAST_TICK_TIMESTAMP, QUEUE_LENGTH
from ops.catalogue.alert_declarations import Alert, Signal, runbook_path, when
from ops.catalogue.promql import age, series

HOUR, DAY = 3600, 86_400  # seconds

OPERATIONS_ALERTS = (
    Alert(
        name="ParleyBeatStopped",
        conditions=when(age(BEAT_LAST_TICK_TIMESTAMP), ">", 300),
        required=(series(BEAT_LAST_TICK_TIMESTAMP),),
        duration="1m",
        severity="page",
        summary="Beat's own job has not run for {{ $value | humanizeDuration }}.",
        affected="Operators: nothing is archived, backed up or checked. Users: search misses new messages.",
        runbook=runbook_path("beat-tick"),
        signals=(Signal(series(BEAT_LAST_TICK_TIMESTAMP), 1, 0, "timestamp"),),
    ),
    Alert(
        name="ParleyQueueLong",
        conditions=when(f"max({series(QUEUE_LENGTH)})", ">", 500),
        required=(series(QUEUE_LENGTH),),
        duration="15m",
        severity="ticket",
        summary="{{ $value | humanize }} jobs wait in a queue.",
        affected="Users who search, and operators: jobs run late.",
        runbook=runbook_path("queue-waiting"),
        signals=(Signal(series(QUEUE_LENGTH, queue="interactive"), 3, 900),),
    ),
    Alert(
        name="ParleyMetricsOld",
        conditions=when(f"max by (group) ({series(EXTERNAL_GAUGE_TIMESTAMP, group='database')})", "<", "time() - 900"),
        required=(series(EXTERNAL_GAUGE_TIMESTAMP, group="database"),),
        duration="5m",
        severity="ticket",
        summary="The metrics of the database were read long ago.",
        affected="Operators: panels and alerts on the database are blind.",
        runbook=runbook_path("stats-measure"),
        signals=(Signal(series(EXTERNAL_GAUGE_TIMESTAMP, group="database"), 1, 0, "timestamp"),),
    ),
    Alert(
        name="ParleyArchiveLate",
        conditions=when(f"max({series(ARCHIVE_OLDEST_ELIGIBLE_AGE)})", ">", 92 * DAY),
        required=(series(ARCHIVE_OLDEST_ELIGIBLE_AGE),),
        duration="1h",
        severity="ticket",
        summary="A conversation has been idle for {{ $value | humanizeDuration }} and is not archived.",
        affected="No user yet. The database grows.",
        runbook=runbook_path("archive-backlog"),
        signals=(Signal(series(ARCHIVE_OLDEST_ELIGIBLE_AGE), 91 * DAY, 93 * DAY),),
        minutes=120,
    ),
    Alert(
        name="ParleyBackupOld",
        conditions=when(age(BACKUP_LAST_SUCCESS_TIMESTAMP), ">", 26 * HOUR),
        required=(series(BACKUP_LAST_SUCCESS_TIMESTAMP),),
        duration="5m",
        severity="page",
        summary="The newest good backup is {{ $value | humanizeDuration }} old.",
        affected="All users, if the database is lost now: what they wrote since then is gone.",
        runbook=runbook_path("backup-recent"),
        signals=(Signal(series(BACKUP_LAST_SUCCESS_TIMESTAMP), 1, 0, "timestamp"),),
        minutes=30 * 60,
    ),
    Alert(
        name="ParleyDrillOld",
        conditions=when(age(RESTORE_DRILL_TIMESTAMP), ">", 8 * DAY),
        required=(series(RESTORE_DRILL_TIMESTAMP),),
        duration="5m",
        severity="ticket",
        summary="The last restore drill began {{ $value | humanizeDuration }} ago.",
        affected="No user yet. It is not proven that the backups can be restored.",
        runbook=runbook_path("backup-drill"),
        signals=(Signal(series(RESTORE_DRILL_TIMESTAMP), 1, 0, "timestamp"),),
        minutes=8 * 24 * 60 + 240,
    ),
    Alert(
        name="ParleyDrillFailed",
        conditions=when(f"min({series(RESTORE_DRILL_SUCCESS)})", "<", 1),
        floor=f"max({series(RESTORE_DRILL_TIMESTAMP)}) > 0",  # before the first drill, ParleyDrillOld fires
        required=(series(RESTORE_DRILL_SUCCESS),),
        duration="5m",
        severity="page",
        summary="The last restore drill failed.",
        affected="All users, if the database is lost now: the newest backup could not be restored.",
        runbook=runbook_path("backup-drill"),
        signals=(Signal(series(RESTORE_DRILL_SUCCESS), 1, 0), Signal(series(RESTORE_DRILL_TIMESTAMP), 1, 1)),
    ),
    Alert(
        name="ParleyIndexInvalid",
        conditions=when(f"sum({series(INDEX_FINDINGS, check='indexes.invalid')})", ">", 0),
        required=(series(INDEX_FINDINGS, check="indexes.invalid"),),
        duration="1h",
        severity="ticket",
        summary="{{ $value | humanize }} indexes are invalid.",
        affected="Users whose requests need these indexes: they are slow.",
        runbook=runbook_path("indexes-invalid"),
        signals=(Signal(series(INDEX_FINDINGS, check="indexes.invalid", severity="critical"), 0, 1),),
        minutes=120,
    ),
    Alert(
        name="ParleyTransactionOld",
        conditions=when(f"max({series(DB_OLDEST_TRANSACTION)})", ">", 1800),
        required=(series(DB_OLDEST_TRANSACTION),),
        duration="5m",
        severity="ticket",
        summary="A transaction has been open for {{ $value | humanizeDuration }}.",
        affected="All users after a time: vacuum cannot remove dead rows, and locks are held.",
        runbook=runbook_path("transactions-long"),
        signals=(Signal(series(DB_OLDEST_TRANSACTION), 5, 3000),),
    ),
    Alert(
        name="ParleyTransactionIdsUsed",
        conditions=when(f"max({series(DB_TRANSACTION_IDS_USED_RATIO)})", ">", 0.5),
        required=(series(DB_TRANSACTION_IDS_USED_RATIO),),
        duration="15m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the transaction ids are used; at 100%, writes are refused.",
        affected="All users, if vacuum does not freeze old ids in time.",
        runbook=runbook_path("tables-wraparound"),
        signals=(Signal(series(DB_TRANSACTION_IDS_USED_RATIO), 0.1, 0.6),),
    ),
    Alert(
        name="ParleyDiskNearlyFull",
        conditions=when(f"min({series(DISK_FREE_BYTES)} / {series(DISK_SIZE_BYTES)})", "<", 0.1),
        required=(series(DISK_FREE_BYTES),),
        duration="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of a disk is free.",
        affected="Soon all users: on a full disk, nothing is stored.",
        runbook=runbook_path("storage-disk"),
        signals=(
            Signal(series(DISK_FREE_BYTES, place="home"), 50e9, 5e9),
            Signal(series(DISK_SIZE_BYTES, place="home"), 100e9, 100e9),
        ),
    ),
)
