"""The dashboard Indexes and archival."""

from app.metrics.archive import (
    ARCHIVE_BACKLOG_CONVERSATIONS,
    ARCHIVE_BUNDLES,
    ARCHIVE_DAMAGED_BUNDLES,
    ARCHIVE_OLDEST_ELIGIBLE_AGE,
)
from app.metrics.backups import BACKUP_LAST_BYTES, RESTORE_DRILL_RPO, RESTORE_DRILL_RTO
from app.metrics.database import DB_TABLE_INDEXES_SIZE_BYTES
from app.metrics.doctor import INDEX_FINDINGS
from ops.catalogue.alerts import limit_of
from ops.catalogue.promql import series
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import Dashboard, Panel, Query, Row

INDEXES_AND_ARCHIVAL = Dashboard(
    uid="parley-indexes",
    title="Parley / Indexes and archival",
    description="Are the indexes sound, does archival keep up, and can backups be restored?",
    rows=(
        DATA_ROW,
        Row(
            "Indexes",
            (
                Panel(
                    title="Findings by check",
                    description="Problems that each index check found last: missing, invalid, unused or damaged.",
                    queries=(Query(f"sum by (check) ({series(INDEX_FINDINGS)})", "{{check}}"),),
                    unit="none",
                    no_value="The doctor has not run",
                    runbook="indexes-plan",
                    width=12,
                    thresholds=((1, "orange"),),
                ),
                Panel(
                    title="Size of the indexes",
                    description="Bytes of all indexes of a table.",
                    queries=(Query(f"topk(10, max by (table) ({series(DB_TABLE_INDEXES_SIZE_BYTES)}))", "{{table}}"),),
                    unit="bytes",
                    no_value="The job stats.measure has not run",
                    runbook="indexes-bloat",
                    width=12,
                ),
            ),
        ),
        Row(
            "Archival",
            (
                Panel(
                    title="Backlog",
                    description="Conversations that are idle long enough to be archived.",
                    queries=(Query(f"max({series(ARCHIVE_BACKLOG_CONVERSATIONS)})", "conversations"),),
                    unit="none",
                    no_value="The job archive.measure has not run",
                    runbook="archive-backlog",
                ),
                Panel(
                    title="Oldest eligible",
                    description="Time since the last activity of the conversation that has waited longest.",
                    queries=(Query(f"max({series(ARCHIVE_OLDEST_ELIGIBLE_AGE)})", "age"),),
                    unit="s",
                    no_value="The job archive.measure has not run",
                    runbook="archive-backlog",
                    thresholds=((limit_of("ParleyArchiveLate"), "red"),),
                ),
                Panel(
                    title="Bundles",
                    description="Archived conversations whose messages are in a bundle, and damaged ones.",
                    queries=(
                        Query(f"max({series(ARCHIVE_BUNDLES)})", "bundles"),
                        Query(f"max({series(ARCHIVE_DAMAGED_BUNDLES)})", "damaged"),
                    ),
                    unit="none",
                    no_value="The job archive.verify has not run",
                    runbook="archive-bundles",
                ),
            ),
        ),
        Row(
            "Backups",
            (
                Panel(
                    title="Size of the newest backup",
                    description="Bytes of the dump.",
                    queries=(Query(f"max({series(BACKUP_LAST_BYTES)})", "dump"),),
                    unit="bytes",
                    no_value="The job backups.measure has not run",
                    runbook="backup-recent",
                    width=12,
                ),
                Panel(
                    title="RTO and RPO of the last drill",
                    description="Time that the restore took, and the age of the newest message in it.",
                    queries=(
                        Query(f"max({series(RESTORE_DRILL_RTO)})", "time to restore"),
                        Query(f"max({series(RESTORE_DRILL_RPO)})", "age of the newest message"),
                    ),
                    unit="s",
                    no_value="No drill has been recorded",
                    runbook="backup-drill",
                    width=12,
                ),
            ),
        ),
    ),
)
