"""The dashboard API."""

from app.metrics.caches import CACHE_REQUESTS
from app.metrics.credentials import API_KEY_REQUESTS, LOGINS, SESSION_REFRESHES
from app.metrics.http import HTTP_REQUEST_DURATION, HTTP_REQUESTS_IN_FLIGHT, STREAMS_MAX, STREAMS_OPEN
from app.metrics.limits import RATE_LIMIT_LOCAL_PROCESSES, RATE_LIMIT_REJECTIONS
from app.metrics.process import (
    PROCESS_CPU_SECONDS,
    PROCESS_OPEN_FDS,
    PROCESS_RESIDENT_MEMORY_BYTES,
)
from ops.catalogue.promql import quantile, rate, series
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import WINDOW, Dashboard, Panel, Query, Row

API = Dashboard(
    uid="parley-api",
    title="Parley / API",
    description="Which route is slow or fails, who is limited, and do logins and keys work?",
    variables=(("route", HTTP_REQUEST_DURATION),),
    rows=(
        DATA_ROW,
        Row(
            "Requests",
            (
                Panel(
                    title="Rate by route",
                    description="Requests per second of the busiest routes.",
                    queries=(
                        Query(
                            f"topk(10, {rate(HTTP_REQUEST_DURATION, WINDOW, ('route',), '_count', route='~$route')})",
                            "{{route}}",
                        ),
                    ),
                    unit="reqps",
                    no_value="No request",
                    runbook="alert-errors",
                    width=12,
                ),
                Panel(
                    title="Errors by route",
                    description="Requests per second that ended with a server error.",
                    queries=(
                        Query(
                            rate(
                                HTTP_REQUEST_DURATION, WINDOW, ("route",), "_count", status_class="5xx", route="~$route"
                            ),
                            "{{route}}",
                        ),
                    ),
                    unit="reqps",
                    no_value="No request of these routes",
                    runbook="alert-errors",
                    width=12,
                ),
                Panel(
                    title="Duration by route",
                    description="p95 of the slowest routes. A streamed turn lasts as long as its answer.",
                    queries=(
                        Query(
                            f"topk(10, {quantile(0.95, HTTP_REQUEST_DURATION, WINDOW, ('route',), route='~$route')})",
                            "{{route}}",
                        ),
                    ),
                    unit="s",
                    no_value="No request",
                    runbook="alert-queries-slow",
                    width=12,
                ),
                Panel(
                    title="Status",
                    description="Requests per second by status class.",
                    queries=(
                        Query(
                            rate(HTTP_REQUEST_DURATION, WINDOW, ("status_class",), "_count", route="~$route"),
                            "{{status_class}}",
                        ),
                    ),
                    unit="reqps",
                    no_value="No request",
                    runbook="alert-errors",
                    width=6,
                ),
                Panel(
                    title="In flight",
                    description="Requests in progress, streams included.",
                    queries=(Query(f"sum({series(HTTP_REQUESTS_IN_FLIGHT)})", "requests"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-errors",
                    width=6,
                ),
            ),
        ),
        Row(
            "Limits",
            (
                Panel(
                    title="Rejected by a limit",
                    description="Requests per second that a limit rejected with 429, logins and keys included.",
                    queries=(Query(rate(RATE_LIMIT_REJECTIONS, WINDOW, ("limit",)), "{{limit}}"),),
                    unit="reqps",
                    no_value="No process is scraped",
                    runbook="alert-errors",
                    width=12,
                ),
                Panel(
                    title="Open streams",
                    description="Answers and exports that are being sent or awaited, and the most of all workers.",
                    queries=(
                        Query(f"sum({series(STREAMS_OPEN)})", "open"),
                        Query(f"sum({series(STREAMS_MAX)})", "maximum"),
                    ),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-streams",
                    width=12,
                ),
                Panel(
                    title="Processes that count alone",
                    description="Processes that count limits in their own memory, because Redis is unavailable.",
                    queries=(Query(f"sum({series(RATE_LIMIT_LOCAL_PROCESSES)})", "processes"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="queue-broker",
                    width=6,
                    thresholds=((1, "orange"),),
                ),
                Panel(
                    title="Cache reads",
                    description="Reads of the caches per second, by result.",
                    queries=(Query(rate(CACHE_REQUESTS, WINDOW, ("cache", "result")), "{{cache}} {{result}}"),),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="alert-queries-slow",
                    width=6,
                ),
            ),
        ),
        Row(
            "Logins and keys",
            (
                Panel(
                    title="Logins",
                    description="Logins per second by outcome. Many wrong ones may be an attack on passwords.",
                    queries=(Query(rate(LOGINS, WINDOW, ("outcome",)), "{{outcome}}"),),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="alert-errors",
                ),
                Panel(
                    title="Refreshed sessions",
                    description="Uses of refresh tokens per second by outcome. Reused: an old token was sent, perhaps a"
                    " stolen one, and the session was ended.",
                    queries=(Query(rate(SESSION_REFRESHES, WINDOW, ("outcome",)), "{{outcome}}"),),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="alert-errors",
                ),
                Panel(
                    title="API keys",
                    description="Requests with an API key per second by outcome. Forbidden: the key is valid, but lacks"
                    " the scope, or the route takes none.",
                    queries=(Query(rate(API_KEY_REQUESTS, WINDOW, ("outcome",)), "{{outcome}}"),),
                    unit="reqps",
                    no_value="No process is scraped",
                    runbook="alert-errors",
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    title="Memory",
                    description="Resident memory of each process.",
                    queries=(Query(series(PROCESS_RESIDENT_MEMORY_BYTES), "{{kind}} {{process}}"),),
                    unit="bytes",
                    no_value="No process is scraped",
                    runbook="alert-down",
                ),
                Panel(
                    title="CPU",
                    description="CPU seconds per second of all processes.",
                    queries=(Query(rate(PROCESS_CPU_SECONDS, WINDOW, ("kind",)), "{{kind}}"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-down",
                ),
                Panel(
                    title="Open files",
                    description="Open files of each process, sockets included.",
                    queries=(Query(series(PROCESS_OPEN_FDS), "{{kind}} {{process}}"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-down",
                ),
            ),
        ),
    ),
)
