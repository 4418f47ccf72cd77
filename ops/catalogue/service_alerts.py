"""Alerts on what callers notice: service levels, slow statements, pools, connections and streams."""

from app.metrics.chat import TURNS
from app.metrics.database import (
    DB_CONNECTIONS,
    DB_CONNECTIONS_MAX,
)
from app.metrics.db import (
    DB_POOL_CONNECTIONS,
    DB_POOL_MAX,
    DB_POOL_TIMEOUTS,
    DB_POOL_WAIT,
    DB_QUERY_DURATION,
)
from app.metrics.http import HTTP_REQUEST_DURATION, STREAMS_MAX, STREAMS_OPEN
from ops.catalogue.alert_declarations import Alert, Comparison, Signal, histogram_signals, runbook_path, when
from ops.catalogue.promql import quantile, rate, series
from ops.catalogue.recording_rules import OBJECTIVE, TURNS_FAILED_RATIO, error_ratio

_REQUESTS = series(HTTP_REQUEST_DURATION, "_count", status_class="2xx", method="GET", route="/")
_ERRORS = series(HTTP_REQUEST_DURATION, "_count", status_class="5xx", method="GET", route="/")
_BUDGET = 1 - OBJECTIVE
_BUDGET_SIGNALS = (Signal(_REQUESTS, 600, 600, "counter"), Signal(_ERRORS, 0, 60, "counter"))


def _burns(factor: float, long: str, short: str) -> tuple[Comparison, ...]:
    """Return the condition that errors use up the budget `factor` times as fast as allowed, in both windows."""
    limit = f"{factor * _BUDGET:.6g}"
    return Comparison(error_ratio(long), ">", limit), Comparison(error_ratio(short), ">", limit)


SERVICE_ALERTS = (
    Alert(
        name="ParleyDown",
        conditions=when('up{job="parley"}', "==", 0),
        required=('up{job="parley"}',),
        duration="2m",
        severity="page",
        summary="Prometheus cannot scrape {{ $labels.instance }}.",
        affected="All users of this host, if the web server is down. All other alerts are blind.",
        runbook=runbook_path("alert-down"),
        signals=(Signal('up{job="parley", instance="parley:8000"}', 1, 0),),
    ),
    Alert(
        name="ParleyErrorBudgetFast",
        conditions=(_burns(14.4, "1h", "5m"), _burns(6, "6h", "30m")),
        required=(error_ratio("1h"), error_ratio("6h")),
        duration="2m",
        severity="page",
        summary="So many requests fail that the month's error budget is gone within days.",
        affected="Users whose requests end with a server error.",
        runbook=runbook_path("alert-errors"),
        signals=_BUDGET_SIGNALS,
        minutes=120,
    ),
    Alert(
        name="ParleyErrorBudgetSlow",
        conditions=(_burns(3, "1d", "2h"), _burns(1, "3d", "6h")),
        required=(error_ratio("1d"), error_ratio("3d")),
        duration="15m",
        severity="ticket",
        summary="Requests fail more often than the objective allows.",
        affected="Users whose requests end with a server error.",
        runbook=runbook_path("alert-errors"),
        signals=_BUDGET_SIGNALS,
        minutes=3000,
    ),
    Alert(
        name="ParleyTurnsFailing",
        conditions=when(TURNS_FAILED_RATIO.name, ">", 0.1),
        floor=f"{rate(TURNS, '10m')} > 0.05",
        required=(series(TURNS, status="completed"),),
        duration="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the turns fail or are interrupted.",
        affected="Users who chat: they get no answer, or half of one.",
        runbook=runbook_path("alert-turns"),
        signals=(
            Signal(series(TURNS, status="completed"), 30, 30, "counter"),
            Signal(series(TURNS, status="failed"), 0, 30, "counter"),
        ),
    ),
    Alert(
        name="ParleyQueriesSlow",
        conditions=when(quantile(0.95, DB_QUERY_DURATION, "5m"), ">", 0.1),
        floor=f"{rate(DB_QUERY_DURATION, '5m', suffix='_count')} > 1",
        required=(series(DB_QUERY_DURATION, "_count"),),
        duration="10m",
        severity="ticket",
        summary="The p95 of all database statements is {{ $value | humanizeDuration }}; the objective is 100 ms.",
        affected="All users: every request waits for the database.",
        runbook=runbook_path("alert-queries-slow"),
        signals=histogram_signals(
            "parley_db_query_duration_seconds", "0.1", "0.5", 'statement="turns.begin", outcome="ok", '
        ),
    ),
    Alert(
        name="ParleyPoolNearlyFull",
        conditions=when(
            f"max(sum by (instance, process) ({series(DB_POOL_CONNECTIONS, state='used')})"
            f" / sum by (instance, process) ({series(DB_POOL_MAX)}))",
            ">",
            0.8,
        ),
        required=(series(DB_POOL_CONNECTIONS, state="used"), series(DB_POOL_MAX)),
        duration="10m",
        severity="ticket",
        summary="A process uses {{ $value | humanizePercentage }} of its database connections.",
        affected="Soon all users of that process: requests wait for a connection, then fail with 503.",
        runbook=runbook_path("alert-pool"),
        signals=(
            Signal(series(DB_POOL_CONNECTIONS, process="1", state="used"), 3, 9),
            Signal(series(DB_POOL_MAX, process="1"), 10, 10),
        ),
    ),
    Alert(
        name="ParleyPoolTimeouts",
        conditions=when(f"sum(increase({series(DB_POOL_TIMEOUTS)}[10m]))", ">", 0),
        required=(series(DB_POOL_TIMEOUTS),),
        duration="2m",  # a single scrape that fails makes the series vanish
        severity="page",
        summary="{{ $value | humanize }} requests got no database connection within 10 minutes.",
        affected="Users whose requests failed with 503.",
        runbook=runbook_path("alert-pool"),
        signals=(Signal(series(DB_POOL_TIMEOUTS), 0, 2, "counter"),),
    ),
    Alert(
        name="ParleyPoolWaitSlow",
        conditions=when(quantile(0.95, DB_POOL_WAIT, "10m"), ">", 0.05),
        floor=f"{rate(DB_POOL_WAIT, '10m', suffix='_count')} > 1",
        required=(series(DB_POOL_WAIT, "_count"),),
        duration="10m",
        severity="ticket",
        summary="The p95 of the wait for a database connection is {{ $value | humanizeDuration }}.",
        affected="All users: each request waits before its first statement.",
        runbook=runbook_path("alert-pool"),
        signals=histogram_signals("parley_db_pool_wait_seconds", "0.05", "0.25", ""),
    ),
    Alert(
        name="ParleyStreamsNearlyFull",
        conditions=when(f"sum({series(STREAMS_OPEN)}) / sum({series(STREAMS_MAX)})", ">", 0.8),
        required=(series(STREAMS_OPEN), series(STREAMS_MAX)),
        duration="5m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the streams that the workers may send are open.",
        affected="Soon all users: new answers and exports are refused with 503.",
        runbook=runbook_path("alert-streams"),
        signals=(Signal(series(STREAMS_OPEN), 100, 1500), Signal(series(STREAMS_MAX, process="1"), 1600, 1600)),
    ),
    Alert(
        name="ParleyConnectionsNearlyUsed",
        conditions=when(
            f"max(sum without (state) ({series(DB_CONNECTIONS)}) / {series(DB_CONNECTIONS_MAX)})", ">", 0.85
        ),
        required=(series(DB_CONNECTIONS_MAX),),
        duration="10m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the server's connections are used.",
        affected="Soon all users: new connections are refused.",
        runbook=runbook_path("alert-connections"),
        signals=(
            Signal(series(DB_CONNECTIONS, state="idle"), 20, 90),
            Signal(series(DB_CONNECTIONS_MAX), 100, 100),
        ),
    ),
)
