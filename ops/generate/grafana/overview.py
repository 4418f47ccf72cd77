"""The dashboard Overview."""

from app.metrics.archive import ARCHIVE_OLDEST_ELIGIBLE_AGE
from app.metrics.backups import BACKUP_LAST_SUCCESS_TIMESTAMP, RESTORE_DRILL_SUCCESS, RESTORE_DRILL_TIMESTAMP
from app.metrics.chat import TURNS_RUNNING
from app.metrics.database import DISK_FREE_BYTES, DISK_SIZE_BYTES
from app.metrics.doctor import CHECK_STATE, INDEX_FINDINGS
from app.metrics.http import HTTP_REQUEST_DURATION
from ops.catalogue.alerts import limit_of
from ops.catalogue.promql import age, quantile, rate, series
from ops.catalogue.recording_rules import OBJECTIVE, TURNS_FAILED_RATIO, error_ratio
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import WINDOW, Dashboard, Panel, Query, Row

BUDGET = 1 - OBJECTIVE

OVERVIEW = Dashboard(
    uid="parley-overview",
    title="Parley / Overview",
    description="Are users served, and does the regular work run?",
    rows=(
        DATA_ROW,
        Row(
            "Service levels",
            (
                Panel(
                    title="Error budget burn",
                    description="How many times faster than allowed errors use up the budget of 30 days (objective"
                    f" {OBJECTIVE:.1%}). Above 14.4 in both windows, an alert pages.",
                    queries=(
                        Query(f"{error_ratio('5m')} / {BUDGET:g}", "5 minutes"),
                        Query(f"{error_ratio('1h')} / {BUDGET:g}", "1 hour"),
                        Query(f"{error_ratio('6h')} / {BUDGET:g}", "6 hours"),
                    ),
                    unit="none",
                    no_value="No request in this window",
                    runbook="alert-errors",
                    width=12,
                    thresholds=((1, "orange"), (14.4, "red")),
                    link="parley-api",
                ),
                Panel(
                    title="Turns that fail",
                    description="Share of the turns of 10 minutes that failed or were interrupted.",
                    queries=(Query(TURNS_FAILED_RATIO.name, "failed"),),
                    unit="percentunit",
                    no_value="No turn ended in this window",
                    runbook="alert-turns",
                    width=12,
                    thresholds=((limit_of("ParleyTurnsFailing"), "red"),),
                    link="parley-turns",
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    title="Rate",
                    description="Requests per second by status class.",
                    queries=(
                        Query(rate(HTTP_REQUEST_DURATION, WINDOW, ("status_class",), "_count"), "{{status_class}}"),
                    ),
                    unit="reqps",
                    no_value="No request",
                    runbook="alert-errors",
                    link="parley-api",
                ),
                Panel(
                    title="Errors",
                    description="Requests per second that ended with a server error.",
                    queries=(Query(rate(HTTP_REQUEST_DURATION, WINDOW, (), "_count", status_class="5xx"), "5xx"),),
                    unit="reqps",
                    no_value="No request",
                    runbook="alert-errors",
                    link="parley-api",
                ),
                Panel(
                    title="Duration",
                    description="Time from receiving a request to the last byte of its response. A streamed turn lasts"
                    " as long as its answer.",
                    queries=(
                        Query(quantile(0.5, HTTP_REQUEST_DURATION, WINDOW), "p50"),
                        Query(quantile(0.95, HTTP_REQUEST_DURATION, WINDOW), "p95"),
                    ),
                    unit="s",
                    no_value="No request",
                    runbook="alert-queries-slow",
                    link="parley-api",
                ),
            ),
        ),
        Row(
            "Regular work",
            (
                Panel(
                    title="Newest backup",
                    description="Age of the newest backup without a known defect.",
                    queries=(Query(age(BACKUP_LAST_SUCCESS_TIMESTAMP), "age"),),
                    unit="s",
                    no_value="The job backups.measure has not run",
                    runbook="backup-recent",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((limit_of("ParleyBackupOld"), "red"),),
                    link="parley-jobs",
                ),
                Panel(
                    title="Last restore drill",
                    description="Time since the newest backup was restored into a scratch database and compared.",
                    queries=(Query(age(RESTORE_DRILL_TIMESTAMP), "age"),),
                    unit="s",
                    no_value="No drill has been recorded",
                    runbook="backup-drill",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((limit_of("ParleyDrillOld"), "red"),),
                    link="parley-jobs",
                ),
                Panel(
                    title="Drill succeeded",
                    description="1 if the last restore drill restored and compared every table.",
                    queries=(Query(f"min({series(RESTORE_DRILL_SUCCESS)})", "success"),),
                    unit="none",
                    no_value="No drill has been recorded",
                    runbook="backup-drill",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((1, "green"),),
                    base="red",
                    link="parley-jobs",
                ),
                Panel(
                    title="Oldest to archive",
                    description="Time since the last activity of the conversation that has waited longest.",
                    queries=(Query(f"max({series(ARCHIVE_OLDEST_ELIGIBLE_AGE)})", "age"),),
                    unit="s",
                    no_value="The job archive.measure has not run",
                    runbook="archive-backlog",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((limit_of("ParleyArchiveLate"), "red"),),
                    link="parley-indexes",
                ),
                Panel(
                    title="Index problems",
                    description="Problems that the index checks found last.",
                    queries=(Query(f"sum({series(INDEX_FINDINGS)})", "findings"),),
                    unit="none",
                    no_value="The doctor has not run",
                    runbook="indexes-invalid",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((1, "orange"),),
                    link="parley-indexes",
                ),
                Panel(
                    title="Critical checks",
                    description="Checks of the doctor that are critical now; `flask ops doctor` says why.",
                    queries=(Query(f"sum({series(CHECK_STATE, state='critical')})", "critical"),),
                    unit="none",
                    no_value="The doctor has not run",
                    runbook="README",
                    kind="stat",
                    width=4,
                    height=5,
                    thresholds=((1, "red"),),
                    link="parley-jobs",
                ),
            ),
        ),
        Row(
            "Load",
            (
                Panel(
                    title="Running turns",
                    description="Turns in progress on all processes.",
                    queries=(Query(f"sum({series(TURNS_RUNNING)})", "running"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-turns",
                    width=12,
                    link="parley-turns",
                ),
                Panel(
                    title="Free disk",
                    description="Free share of the disks that Parley writes to.",
                    queries=(Query(f"{series(DISK_FREE_BYTES)} / {series(DISK_SIZE_BYTES)}", "{{place}}"),),
                    unit="percentunit",
                    no_value="The job stats.measure has not run",
                    runbook="storage-disk",
                    width=12,
                    thresholds=((limit_of("ParleyDiskNearlyFull"), "green"),),
                    base="red",
                    is_share=True,
                    link="parley-database",
                ),
            ),
        ),
    ),
)
