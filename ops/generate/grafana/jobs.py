"""The dashboard Jobs."""

from app.metrics.doctor import CHECK_STATE
from app.metrics.jobs import (
    JOB_LAST_ATTEMPT_TIMESTAMP,
    JOB_LAST_SUCCESS_TIMESTAMP,
    JOB_RUNTIME,
    QUEUE_LENGTH,
    QUEUE_WAIT,
)
from ops.catalogue.alerts import limit_of
from ops.catalogue.promql import quantile, series
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import WINDOW, Dashboard, Panel, Query, Row

JOBS = Dashboard(
    uid="parley-jobs",
    title="Parley / Jobs",
    description="Do the jobs run, succeed and keep up?",
    rows=(
        DATA_ROW,
        Row(
            "Runs",
            (
                Panel(
                    title="Runs by outcome",
                    description="Ended runs in ten minutes.",
                    queries=(
                        Query(f"sum by (outcome) (increase({series(JOB_RUNTIME, '_count')}[10m]))", "{{outcome}}"),
                    ),
                    unit="none",
                    no_value="No job has run since the start",
                    runbook="jobs-failed",
                ),
                Panel(
                    title="Failed runs",
                    description="Failed runs in an hour, by job.",
                    queries=(
                        Query(
                            f"sum by (job_name) (increase({series(JOB_RUNTIME, '_count', outcome='failed')}[1h])) > 0",
                            "{{job_name}}",
                        ),
                    ),
                    unit="none",
                    no_value="No job has failed in this hour",
                    runbook="jobs-failed",
                ),
                Panel(
                    title="Duration",
                    description="p95 of the duration of a run, by job.",
                    queries=(Query(quantile(0.95, JOB_RUNTIME, "1h", ("job_name",)), "{{job_name}}"),),
                    unit="s",
                    no_value="No job has run in this hour",
                    runbook="jobs-overdue",
                ),
            ),
        ),
        Row(
            "Queue",
            (
                Panel(
                    title="Waiting jobs",
                    description="Jobs that wait in each queue.",
                    queries=(Query(f"max by (queue) ({series(QUEUE_LENGTH)})", "{{queue}}"),),
                    unit="none",
                    no_value="Beat's own job has not run",
                    runbook="queue-waiting",
                    width=12,
                    thresholds=((limit_of("ParleyQueueLong"), "red"),),
                ),
                Panel(
                    title="Lateness",
                    description="Time from a job's due time to its start.",
                    queries=(
                        Query(quantile(0.5, QUEUE_WAIT, WINDOW), "p50"),
                        Query(quantile(0.95, QUEUE_WAIT, WINDOW), "p95"),
                    ),
                    unit="s",
                    no_value="No job has started in this window",
                    runbook="queue-waiting",
                    width=12,
                ),
            ),
        ),
        Row(
            "Each job",
            (
                Panel(
                    title="Last success",
                    description="Time since a job last succeeded, and since it last ran.",
                    queries=(
                        Query(
                            f"time() - max by (job_name) ({series(JOB_LAST_SUCCESS_TIMESTAMP)} > 0)", "since success"
                        ),
                        # "> 0": a job that has not run yet has the time 0.
                        Query(f"time() - max by (job_name) ({series(JOB_LAST_ATTEMPT_TIMESTAMP)} > 0)", "since run"),
                    ),
                    unit="s",
                    no_value="Beat's own job has not run",
                    runbook="jobs-overdue",
                    kind="table",
                    sorted_by="since run",
                    width=12,
                    height=12,
                ),
                Panel(
                    title="Checks of the doctor",
                    description="Checks that are not ok; `flask ops doctor --only CHECK` says why.",
                    queries=(
                        Query(
                            f"max by (check, state) ({series(CHECK_STATE, state='~warning|critical|unknown')}) > 0",
                        ),
                    ),
                    unit="none",
                    no_value="All checks are ok, or the doctor has not run: see the row above",
                    runbook="README",
                    kind="table",
                    width=12,
                    height=12,
                ),
            ),
        ),
    ),
)
