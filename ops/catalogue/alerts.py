"""The alerts on service levels, the pool, jobs, backups, indexes, providers and disks. Each is declared once.

`ops/generate/prometheus.py` writes the rules and their tests, and adds an alert for each check of the doctor.
"""

from dataclasses import dataclass, field
from typing import Literal

from app.metrics.archive import ARCHIVE_OLDEST_ELIGIBLE_AGE
from app.metrics.backups import (
    BACKUP_LAST_SUCCESS_TIMESTAMP,
    RESTORE_DRILL_SUCCESS,
    RESTORE_DRILL_TIMESTAMP,
)
from app.metrics.chat import AI_CIRCUIT_STATE, TURNS
from app.metrics.database import (
    DB_CONNECTIONS,
    DB_CONNECTIONS_MAX,
    DB_OLDEST_TRANSACTION,
    DB_TRANSACTION_IDS_USED_RATIO,
    DISK_FREE_BYTES,
    DISK_SIZE_BYTES,
)
from app.metrics.db import (
    DB_POOL_CONNECTIONS,
    DB_POOL_MAX,
    DB_POOL_TIMEOUTS,
    DB_POOL_WAIT,
    DB_QUERY_DURATION,
)
from app.metrics.doctor import INDEX_FINDINGS
from app.metrics.external_gauges import EXTERNAL_GAUGE_TIMESTAMP
from app.metrics.http import HTTP_REQUEST_DURATION, STREAMS_MAX, STREAMS_OPEN
from app.metrics.jobs import BEAT_LAST_TICK_TIMESTAMP, QUEUE_LENGTH
from app.metrics.mcp import MCP_REQUESTS
from app.metrics.tools import TOOL_CALLS
from app.tools.tool import BUILTIN
from ops.catalogue.promql import age, quantile, rate, series
from ops.catalogue.recording_rules import OBJECTIVE, TURNS_FAILED_RATIO, error_ratio

HOUR, DAY = 3600, 86_400  # seconds

Severity = Literal["page", "ticket"]  # to act on now, or on the next working day


@dataclass(frozen=True, slots=True)
class Signal:
    """One series of a test of an alert: its selector, and its value while all is well and during the fault.

    `kind` says what the values are: of a gauge; the growth of a counter per minute; or, for a timestamp, 1 if it is the
    present time and 0 if it has stopped.
    """

    series: str
    well: float
    fault: float
    kind: Literal["gauge", "counter", "timestamp"] = "gauge"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a value with a limit. The value must exist while all is well, too."""

    value: str
    operator: Literal["<", ">", "=="]
    limit: str

    def __str__(self) -> str:
        return f"{self.value} {self.operator} {self.limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    It fires if all comparisons of one of the `conditions` hold, and `floor`, if any, which keeps the alert quiet where
    there is too little traffic to judge. It also fires if one of the series in `required` is absent. `duration` is how
    long the condition must hold. `affected` says who is hurt.
    """

    name: str
    conditions: tuple[tuple[Comparison, ...], ...]
    required: tuple[str, ...]
    duration: str
    severity: Severity
    summary: str
    affected: str
    runbook: str
    signals: tuple[Signal, ...]
    floor: str = ""
    minutes: int = field(default=40)  # of a test, from the fault to the alert

    @property
    def limit(self) -> float:
        """The limit of the first comparison, for the threshold of a panel. Raises `ValueError` if it is no number."""
        return float(self.conditions[0][0].limit)

    @property
    def expr(self) -> str:
        """The expression of the rule."""
        conditions = " or ".join(_all(comparisons) for comparisons in self.conditions)
        if self.floor:
            conditions = f"({conditions} and {self.floor})"
        return " or ".join([conditions, *(f"absent({name})" for name in self.required)])


def when(value: str, operator: Literal["<", ">", "=="], limit: float | str) -> tuple[tuple[Comparison, ...], ...]:
    """Return the conditions that consist of one comparison."""
    return ((Comparison(value, operator, f"{limit:g}" if isinstance(limit, float | int) else limit),),)


def _all(comparisons: tuple[Comparison, ...]) -> str:
    joined = " and ".join(map(str, comparisons))
    return f"({joined})" if len(comparisons) > 1 else joined


def _runbook(page: str) -> str:
    return f"docs/runbooks/{page}.md"


_REQUESTS = series(HTTP_REQUEST_DURATION, "_count", status_class="2xx", method="GET", route="/")
_ERRORS = series(HTTP_REQUEST_DURATION, "_count", status_class="5xx", method="GET", route="/")
_BUDGET = 1 - OBJECTIVE
_BUDGET_SIGNALS = (Signal(_REQUESTS, 600, 600, "counter"), Signal(_ERRORS, 0, 60, "counter"))


def _burns(factor: float, long: str, short: str) -> tuple[Comparison, ...]:
    """Return the condition that errors use up the budget `factor` times as fast as allowed, in both windows."""
    limit = f"{factor * _BUDGET:.6g}"
    return Comparison(error_ratio(long), ">", limit), Comparison(error_ratio(short), ">", limit)


def _histogram(metric: str, le_below: str, le_above: str, labels: str) -> tuple[Signal, ...]:
    """Return the signals of a histogram whose observations move from below `le_below` to below `le_above`."""
    return (
        Signal(f'{metric}_bucket{{{labels}le="{le_below}"}}', 600, 0, "counter"),
        Signal(f'{metric}_bucket{{{labels}le="{le_above}"}}', 600, 600, "counter"),
        Signal(f'{metric}_bucket{{{labels}le="+Inf"}}', 600, 600, "counter"),
        Signal(f"{metric}_count" + (f"{{{labels.rstrip(', ')}}}" if labels else ""), 600, 600, "counter"),
    )


ALERTS = (
    Alert(
        name="ParleyDown",
        conditions=when('up{job="parley"}', "==", 0),
        required=('up{job="parley"}',),
        duration="2m",
        severity="page",
        summary="Prometheus cannot scrape {{ $labels.instance }}.",
        affected="All users of this host, if the web server is down. All other alerts are blind.",
        runbook=_runbook("alert-down"),
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
        runbook=_runbook("alert-errors"),
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
        runbook=_runbook("alert-errors"),
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
        runbook=_runbook("alert-turns"),
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
        runbook=_runbook("alert-queries-slow"),
        signals=_histogram("parley_db_query_duration_seconds", "0.1", "0.5", 'statement="turns.begin", outcome="ok", '),
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
        runbook=_runbook("alert-pool"),
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
        runbook=_runbook("alert-pool"),
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
        runbook=_runbook("alert-pool"),
        signals=_histogram("parley_db_pool_wait_seconds", "0.05", "0.25", ""),
    ),
    Alert(
        name="ParleyStreamsNearlyFull",
        conditions=when(f"sum({series(STREAMS_OPEN)}) / sum({series(STREAMS_MAX)})", ">", 0.8),
        required=(series(STREAMS_OPEN), series(STREAMS_MAX)),
        duration="5m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the streams that the workers may send are open.",
        affected="Soon all users: new answers and exports are refused with 503.",
        runbook=_runbook("alert-streams"),
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
        runbook=_runbook("alert-connections"),
        signals=(
            Signal(series(DB_CONNECTIONS, state="idle"), 20, 90),
            Signal(series(DB_CONNECTIONS_MAX), 100, 100),
        ),
    ),
    Alert(
        name="ParleyBeatStopped",
        conditions=when(age(BEAT_LAST_TICK_TIMESTAMP), ">", 300),
        required=(series(BEAT_LAST_TICK_TIMESTAMP),),
        duration="1m",
        severity="page",
        summary="Beat's own job has not run for {{ $value | humanizeDuration }}.",
        affected="Operators: nothing is archived, backed up or checked. Users: search misses new messages.",
        runbook=_runbook("beat-tick"),
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
        runbook=_runbook("queue-waiting"),
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
        runbook=_runbook("stats-measure"),
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
        runbook=_runbook("archive-backlog"),
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
        runbook=_runbook("backup-recent"),
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
        runbook=_runbook("backup-drill"),
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
        runbook=_runbook("backup-drill"),
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
        runbook=_runbook("indexes-invalid"),
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
        runbook=_runbook("transactions-long"),
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
        runbook=_runbook("tables-wraparound"),
        signals=(Signal(series(DB_TRANSACTION_IDS_USED_RATIO), 0.1, 0.6),),
    ),
    Alert(
        name="ParleyCircuitOpen",
        conditions=when(f"max by (provider, model) ({series(AI_CIRCUIT_STATE, model='~.+')})", "==", 2),
        required=(series(AI_CIRCUIT_STATE),),
        duration="5m",
        severity="page",
        summary="The circuit of {{ $labels.provider }} ({{ $labels.model }}) is open.",
        affected="Users who chat with this model: they get a fallback, or an error.",
        runbook=_runbook("provider-reachable"),
        signals=(Signal(series(AI_CIRCUIT_STATE, provider="openai", model="gpt", process="1"), 0, 2),),
    ),
    Alert(
        name="ParleyMcpServerFailing",
        conditions=when(
            f"{rate(MCP_REQUESTS, '10m', ('server',), outcome='~failed|skipped')}"
            f" / {rate(MCP_REQUESTS, '10m', ('server',))}",
            ">",
            0.5,
        ),
        floor=f"{rate(MCP_REQUESTS, '10m', ('server',))} > 0.01",
        required=(series(MCP_REQUESTS),),
        duration="15m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the requests to the MCP server {{ $labels.server }} fail.",
        affected="Users whose chats call tools of this server: the calls fail.",
        runbook=_runbook("mcp-reachable"),
        signals=(
            Signal(series(MCP_REQUESTS, server="weather", method="tools/call", outcome="ok"), 6, 0, "counter"),
            Signal(series(MCP_REQUESTS, server="weather", method="tools/call", outcome="failed"), 0, 6, "counter"),
        ),
    ),
    Alert(
        name="ParleyToolsFailing",
        conditions=when(
            f"{rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN, outcome='crashed')}"
            f" / {rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN)}",
            ">",
            0.1,
        ),
        floor=f"{rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN)} > 0.01",
        required=(series(TOOL_CALLS),),
        duration="10m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the calls of the tool {{ $labels.tool }} fail unexpectedly.",
        affected="Users whose chats or MCP clients call this tool: nothing is done.",
        runbook=_runbook("alert-tools"),
        signals=(
            Signal(series(TOOL_CALLS, tool="add_task", source=BUILTIN, outcome="ok"), 6, 6, "counter"),
            Signal(series(TOOL_CALLS, tool="add_task", source=BUILTIN, outcome="crashed"), 0, 6, "counter"),
        ),
    ),
    Alert(
        name="ParleyMcpToolsFailing",
        conditions=when(
            f"{rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}', outcome='~failed|crashed')}"
            f" / {rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}')}",
            ">",
            0.5,
        ),
        floor=f"{rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}')} > 0.01",
        required=(series(TOOL_CALLS),),
        duration="15m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the calls of {{ $labels.tool }} ({{ $labels.source }}) fail.",
        affected="Users whose chats call this tool: the answers do without its results.",
        runbook=_runbook("alert-mcp-tools"),
        signals=(
            Signal(series(TOOL_CALLS, tool="weather__now", source="weather", outcome="ok"), 6, 0, "counter"),
            Signal(series(TOOL_CALLS, tool="weather__now", source="weather", outcome="failed"), 0, 6, "counter"),
        ),
    ),
    Alert(
        name="ParleyDiskNearlyFull",
        conditions=when(f"min({series(DISK_FREE_BYTES)} / {series(DISK_SIZE_BYTES)})", "<", 0.1),
        required=(series(DISK_FREE_BYTES),),
        duration="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of a disk is free.",
        affected="Soon all users: on a full disk, nothing is stored.",
        runbook=_runbook("storage-disk"),
        signals=(
            Signal(series(DISK_FREE_BYTES, place="home"), 50e9, 5e9),
            Signal(series(DISK_SIZE_BYTES, place="home"), 100e9, 100e9),
        ),
    ),
)


def limit_of(name: str) -> float:
    """Return the limit of the alert with this name. Raises `KeyError` if there is none."""
    return {alert.name: alert for alert in ALERTS}[name].limit
