"""The first row of every dashboard: is the data there? An empty panel otherwise looks like a quiet system."""

from app.metrics.external_gauges import EXTERNAL_GAUGE_TIMESTAMP
from app.metrics.jobs import BEAT_LAST_TICK_TIMESTAMP
from app.metrics.process import BUILD_INFO
from ops.catalogue.alerts import limit_of
from ops.catalogue.promql import age, series
from ops.generate.grafana.panels import Panel, Query, Row

DATA_ROW = Row(
    "Is the data there?",
    (
        Panel(
            title="Scraped",
            description="1 while Prometheus can scrape the host. At 0 or without a value, all other panels are old.",
            queries=(Query("min(up)", "up"),),
            unit="none",
            no_value="Prometheus has no target with this job: nothing below is true",
            runbook="alert-down",
            kind="stat",
            width=6,
            height=4,
            thresholds=((1, "green"),),
            base="red",
        ),
        Panel(
            title="Beat's last tick",
            description="Time since a worker ran the job that beat sends every 30 seconds.",
            queries=(Query(age(BEAT_LAST_TICK_TIMESTAMP), "age"),),
            unit="s",
            no_value="No worker has run a job of beat since the start",
            runbook="beat-tick",
            kind="stat",
            width=6,
            height=4,
            thresholds=((120, "orange"), (limit_of("ParleyBeatStopped"), "red")),
        ),
        Panel(
            title="Database statistics read",
            description="Time since a job read the sizes, connections and transactions of the database.",
            queries=(Query(f"time() - max({series(EXTERNAL_GAUGE_TIMESTAMP, group='database')})", "age"),),
            unit="s",
            no_value="The job stats.measure has not run since the start",
            runbook="stats-measure",
            kind="stat",
            width=6,
            height=4,
            thresholds=((300, "orange"), (900, "red")),
        ),
        Panel(
            title="Version",
            description="The version of Parley that runs. Two values during an upgrade.",
            queries=(Query(f"max by (version) ({series(BUILD_INFO)})", "{{version}}"),),
            unit="none",
            no_value="No process has started with this version of the metrics",
            runbook="alert-down",
            kind="stat",
            shows_names=True,
            width=6,
            height=4,
        ),
    ),
)
