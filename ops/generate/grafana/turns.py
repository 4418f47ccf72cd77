"""The dashboard Turns and providers."""

from app.metrics.chat import (
    AI_CIRCUIT_STATE,
    AI_ERRORS,
    AI_FALLBACKS,
    AI_REQUEST_DURATION,
    AI_RETRIES,
    AI_TIME_TO_FIRST_TOKEN,
    AI_TOKENS,
    TURN_DURATION,
    TURNS,
    TURNS_REPLAYED,
    TURNS_RESUMED,
    TURNS_RUNNING,
)
from ops.catalogue.promql import quantile, rate, series
from ops.generate.grafana.data_row import DATA_ROW
from ops.generate.grafana.panels import WINDOW, Dashboard, Panel, Query, Row
from ops.generate.grafana.tools_row import TOOLS_ROW

TURNS_AND_PROVIDERS = Dashboard(
    uid="parley-turns",
    title="Parley / Turns and providers",
    description="How fast are answers, and which provider fails?",
    rows=(
        DATA_ROW,
        Row(
            "Turns",
            (
                Panel(
                    title="Ended turns",
                    description="Turns per second by how they ended.",
                    queries=(Query(rate(TURNS, WINDOW, ("status",)), "{{status}}"),),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="alert-turns",
                ),
                Panel(
                    title="Running turns",
                    description="Turns in progress on all processes.",
                    queries=(Query(f"sum({series(TURNS_RUNNING)})", "running"),),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="alert-turns",
                ),
                Panel(
                    title="Duration of a turn",
                    description="Time from the start of a turn to its stored end.",
                    queries=(
                        Query(quantile(0.5, TURN_DURATION, WINDOW), "p50"),
                        Query(quantile(0.95, TURN_DURATION, WINDOW), "p95"),
                    ),
                    unit="s",
                    no_value="No turn ended in this window",
                    runbook="alert-turns",
                ),
                Panel(
                    title="Joined and replayed",
                    description="Requests per second that joined a running turn, or replayed a completed one.",
                    queries=(
                        Query(rate(TURNS_RESUMED, WINDOW), "joined"),
                        Query(rate(TURNS_REPLAYED, WINDOW), "replayed"),
                    ),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="alert-turns",
                ),
                Panel(
                    title="Tokens",
                    description="Tokens per second, as the providers count them.",
                    queries=(Query(rate(AI_TOKENS, WINDOW, ("type",)), "{{type}}"),),
                    unit="ops",
                    no_value="No process is scraped",
                    runbook="provider-reachable",
                ),
            ),
        ),
        Row(
            "Providers",
            (
                Panel(
                    title="Time to the first token",
                    description="p95 of the time from requesting an answer to its first token, by model.",
                    queries=(
                        Query(
                            quantile(0.95, AI_TIME_TO_FIRST_TOKEN, WINDOW, ("provider", "model")),
                            "{{provider}} {{model}}",
                        ),
                    ),
                    unit="s",
                    no_value="No answer in this window",
                    runbook="provider-reachable",
                ),
                Panel(
                    title="Duration of an answer",
                    description="p95 of the time from requesting an answer to its end, by model.",
                    queries=(
                        Query(
                            quantile(0.95, AI_REQUEST_DURATION, WINDOW, ("provider", "model")), "{{provider}} {{model}}"
                        ),
                    ),
                    unit="s",
                    no_value="No answer in this window",
                    runbook="provider-reachable",
                ),
                Panel(
                    title="Errors by kind",
                    description="Answers per second that failed after all retries, by error code.",
                    queries=(Query(rate(AI_ERRORS, WINDOW, ("error_type",)), "{{error_type}}"),),
                    unit="ops",
                    no_value="No answer has failed since the start",
                    runbook="alert-turns",
                ),
                Panel(
                    title="Circuits",
                    description="0 closed, 1 half open, 2 open: an open circuit sends no requests to a model.",
                    queries=(
                        Query(f"max by (provider, model) ({series(AI_CIRCUIT_STATE)})", "{{provider}} {{model}}"),
                    ),
                    unit="none",
                    no_value="No process is scraped",
                    runbook="provider-reachable",
                    thresholds=((1, "orange"), (2, "red")),
                ),
                Panel(
                    title="Retries and fallbacks",
                    description="Retries after a transient failure, and answers by a fallback provider, per second.",
                    queries=(
                        Query(rate(AI_RETRIES, WINDOW, ("provider",)), "retry {{provider}}"),
                        Query(rate(AI_FALLBACKS, WINDOW, ("provider",)), "fallback {{provider}}"),
                    ),
                    unit="ops",
                    no_value="No retry and no fallback since the start",
                    runbook="provider-reachable",
                ),
            ),
        ),
        TOOLS_ROW,
    ),
)
