"""The dashboard Database."""

from app.metrics.database import (
    DB_BLOCK_READS,
    DB_CONNECTIONS,
    DB_CONNECTIONS_MAX,
    DB_DEADLOCKS,
    DB_OLDEST_TRANSACTION,
    DB_SIZE_BYTES,
    DB_TABLE_INDEXES_SIZE_BYTES,
    DB_TABLE_ROWS,
    DB_TABLE_SIZE_BYTES,
    DB_TRANSACTION_IDS_USED_RATIO,
)
from app.metrics.db import (
    DB_POOL_CONNECTIONS,
    DB_POOL_MAX,
    DB_POOL_PENDING_REQUESTS,
    DB_POOL_TIMEOUTS,
    DB_POOL_WAIT,
    DB_QUERY_DURATION,
)
from ops.catalogue.alerts import limit_of
from ops.catalogue.promql import quantile, rate, series
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import WINDOW, Dashboard, Panel, Query, Row

_STATEMENTS = {"statement": "~$statement"}
_OF_STATEMENT = {q: quantile(q, DB_QUERY_DURATION, "5m", ("statement",), **_STATEMENTS) for q in (0.5, 0.95, 0.99)}

DATABASE = Dashboard(
    uid="parley-database",
    title="Parley / Database",
    description="Which statement is slow, and is the pool of connections the limit?",
    variables=(("statement", DB_QUERY_DURATION),),
    rows=(
        DATA_ROW,
        Row(
            "Statements",
            (
                Panel(
                    title="Duration of all statements",
                    description="Time from sending a statement to receiving its result. The objective is a p95 of"
                    " 100 ms.",
                    queries=tuple(
                        Query(quantile(q, DB_QUERY_DURATION, WINDOW, (), **_STATEMENTS), f"p{round(q * 100)}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                    unit="s",
                    no_value="No statement",
                    runbook="alert-queries-slow",
                    width=12,
                    thresholds=((limit_of("ParleyQueriesSlow"), "red"),),
                ),
                Panel(
                    title="p95 by statement",
                    description="The slowest statements of this time; names are those of the code.",
                    queries=(
                        Query(
                            f"topk(10, {quantile(0.95, DB_QUERY_DURATION, WINDOW, ('statement',), **_STATEMENTS)})",
                            "{{statement}}",
                        ),
                    ),
                    unit="s",
                    no_value="No statement",
                    runbook="statements-slow",
                    width=12,
                ),
                Panel(
                    title="Slow statements",
                    description="Median, p95, p99 and rate of each statement over the last five minutes.",
                    queries=(
                        # "> 0": without a statement in this time, the quantile is no number.
                        Query(f"{_OF_STATEMENT[0.5]} > 0", "p50"),
                        Query(f"{_OF_STATEMENT[0.95]} > 0", "p95"),
                        Query(f"{_OF_STATEMENT[0.99]} > 0", "p99"),
                        Query(
                            f"{rate(DB_QUERY_DURATION, '5m', ('statement',), '_count', **_STATEMENTS)} > 0",
                            "per second",
                            unit="ops",
                        ),
                    ),
                    sorted_by="p95",
                    unit="s",
                    no_value="No statement",
                    runbook="statements-slow",
                    kind="table",
                    width=16,
                ),
                Panel(
                    title="Failed statements",
                    description="Statements per second that failed or reached a timeout.",
                    queries=(
                        Query(
                            rate(DB_QUERY_DURATION, WINDOW, ("outcome",), "_count", outcome="~error|timeout"),
                            "{{outcome}}",
                        ),
                    ),
                    unit="ops",
                    no_value="No statement has failed since the start",
                    runbook="alert-errors",
                    width=8,
                ),
            ),
        ),
        Row(
            "Pool",
            (
                Panel(
                    title="Used connections",
                    description="Connections that each process uses, and the most that it may open.",
                    queries=(
                        Query(series(DB_POOL_CONNECTIONS, state="used"), "used, process {{process}}"),
                        Query(f"min({series(DB_POOL_MAX)})", "maximum of a process"),
                    ),
                    unit="none",
                    no_value="No process has used the database",
                    runbook="alert-pool",
                    width=8,
                ),
                Panel(
                    title="Wait for a connection",
                    description="Time from requesting a connection to getting one; an alert at a p95 of 50 ms.",
                    queries=(Query(f"sum by (le) (rate({series(DB_POOL_WAIT, '_bucket')}[{WINDOW}]))", "{{le}}"),),
                    unit="s",
                    no_value="No process has used the database",
                    runbook="alert-pool",
                    kind="heatmap",
                    width=8,
                ),
                Panel(
                    title="Waiting requests and timeouts",
                    description="Requests that wait for a connection now, and those that got none in time.",
                    queries=(
                        Query(f"sum({series(DB_POOL_PENDING_REQUESTS)})", "waiting"),
                        Query(f"sum(increase({series(DB_POOL_TIMEOUTS)}[{WINDOW}]))", "timeouts"),
                    ),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-pool",
                    width=8,
                ),
            ),
        ),
        Row(
            "Server",
            (
                Panel(
                    title="Connections of all clients",
                    description="Connections to this database by state, and the most that the server accepts.",
                    queries=(
                        Query(series(DB_CONNECTIONS), "{{state}}"),
                        Query(f"max({series(DB_CONNECTIONS_MAX)})", "max_connections"),
                    ),
                    unit="none",
                    no_value="The job stats.measure has not run",
                    runbook="alert-connections",
                ),
                Panel(
                    title="Oldest transaction",
                    description="Age of the oldest open transaction: vacuum cannot remove what it may still read.",
                    queries=(Query(f"max({series(DB_OLDEST_TRANSACTION)})", "age"),),
                    unit="s",
                    no_value="The job stats.measure has not run",
                    runbook="transactions-long",
                    thresholds=((limit_of("ParleyTransactionOld"), "red"),),
                ),
                Panel(
                    title="Blocks read",
                    description="Blocks per second from the cache of PostgreSQL and from the disk.",
                    queries=(Query(f"sum by (source) (rate({series(DB_BLOCK_READS)}[10m]))", "{{source}}"),),
                    unit="ops",
                    no_value="The job stats.measure has run less than twice",
                    runbook="tables-cache",
                ),
                Panel(
                    title="Transaction ids used",
                    description="Share of the transaction ids; at 100%, PostgreSQL refuses writes.",
                    queries=(Query(f"max({series(DB_TRANSACTION_IDS_USED_RATIO)})", "used"),),
                    unit="percentunit",
                    no_value="The job stats.measure has not run",
                    runbook="tables-wraparound",
                    thresholds=((limit_of("ParleyTransactionIdsUsed"), "red"),),
                    is_share=True,
                ),
                Panel(
                    title="Deadlocks",
                    description="Deadlocks in ten minutes.",
                    queries=(Query(f"sum(increase({series(DB_DEADLOCKS)}[10m]))", "deadlocks"),),
                    unit="none",
                    no_value="The job stats.measure has run less than twice",
                    runbook="transactions-blocked",
                ),
                Panel(
                    title="Size of the database",
                    description="Bytes on disk.",
                    queries=(Query(f"max({series(DB_SIZE_BYTES)})", "database"),),
                    unit="bytes",
                    no_value="The job stats.measure has not run",
                    runbook="storage-growth",
                ),
            ),
        ),
        Row(
            "Tables",
            (
                Panel(
                    title="Largest tables",
                    description="Bytes of a table with its indexes.",
                    queries=(
                        Query(
                            f"topk(10, max by (table) ({series(DB_TABLE_SIZE_BYTES)}"
                            f" + {series(DB_TABLE_INDEXES_SIZE_BYTES)}))",
                            "{{table}}",
                        ),
                    ),
                    unit="bytes",
                    no_value="The job stats.measure has not run",
                    runbook="storage-growth",
                    width=12,
                ),
                Panel(
                    title="Dead rows",
                    description="Rows that vacuum has not removed yet.",
                    queries=(Query(f"topk(10, max by (table) ({series(DB_TABLE_ROWS, state='dead')}))", "{{table}}"),),
                    unit="none",
                    no_value="The job stats.measure has not run",
                    runbook="tables-vacuum",
                    width=12,
                ),
            ),
        ),
    ),
)
