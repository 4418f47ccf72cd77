"""`flask ops metrics`: the main signals of the running server, with small charts."""

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import click
from rich.console import Console

from app.config import load_settings
from ops.cli.base import json_option, print_report
from ops.cli.rendering import EMPTY, table
from ops.formatting import format_duration
from ops.stats.scrape import Scrape, ScrapeFailed, Scraper
from ops.stats.signals import Signal, Unit, signals
from ops.up.address import Address, running_url

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_CHART = 60  # characters
MAX_SCRAPES = 300  # all are kept in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReport:
    """The signals of a period. `failed` scrapes got no response and are left out."""

    url: str
    since: datetime
    seconds: float
    scrapes: int
    failed: int
    signals: tuple[Signal, ...]


@click.command("metrics")
@click.option("--url", help="URL of the server; by default that of `make up`, else HOST and PORT of the settings.")
@click.option(
    "--seconds", type=click.FloatRange(0.2, 3600), default=10, show_default=True, help="Seconds to watch the server."
)
@click.option(
    "--interval", type=click.FloatRange(0.1, 600), default=1, show_default=True, help="Seconds between two scrapes."
)
@json_option
def metrics(url: str | None, seconds: float, interval: float, json: bool) -> None:
    """Show the main metrics of the running server.

    Reads GET /metrics with OPS_TOKEN, again and again for --seconds. Requests for metrics are not counted. The columns
    lowest, highest and chart have one value for each --interval.
    """
    if not 1 <= seconds / interval <= MAX_SCRAPES:
        raise click.UsageError(f"--seconds divided by --interval must be 1 to {MAX_SCRAPES}.")
    server = load_settings().server
    token = server.ops_token.get_secret_value() if server.ops_token else None
    target = _checked(url) if url else running_url(server.home) or Address(server.host, server.port).url
    scraper = Scraper(target, token)
    since = datetime.now(UTC)
    scrapes, failed = _watch(scraper, seconds, interval)
    report = MetricsReport(
        url=scraper.url,
        since=since,
        seconds=round(scrapes[-1].clock - scrapes[0].clock, 3),
        scrapes=len(scrapes),
        failed=failed,
        signals=signals(scrapes),
    )
    print_report("metrics", report, json=json, view=lambda console: _print(console, report))


def _checked(url: str) -> str:
    """Return the URL of the option. Raises `click.UsageError` for one that is none, or has a password."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0:
            return url
    raise click.UsageError("--url must be like http://127.0.0.1:8000, without a user and a password.")


def _watch(
    scraper: Scraper, seconds: float, interval: float, sleep: Callable[[float], None] = time.sleep
) -> tuple[list[Scrape], int]:
    """Return the scrapes of `seconds`, and how many failed. Raises `UnknownState` if fewer than two succeed."""
    scrapes, failed, begin = [scraper.scrape()], 0, time.monotonic()
    for number in range(1, math.floor(seconds / interval + 1e-9) + 1):
        delay = begin + number * interval - time.monotonic()
        if delay < -interval:
            continue  # the server was slower than the interval
        sleep(max(0.0, delay))
        try:
            scrapes.append(scraper.scrape())
        except ScrapeFailed:  # a restart
            failed += 1
    if len(scrapes) < 2:
        scrapes.append(scraper.scrape())
    return scrapes, failed


def _print(console: Console, report: MetricsReport) -> None:
    failed = f", {report.failed} scrapes failed" if report.failed else ""
    console.print(f"{report.url}, {report.seconds:.3g} s in {report.scrapes} scrapes{failed}\n", soft_wrap=True)
    with_charts = can_draw(console)
    rows = []
    for signal in report.signals:
        known = [point for point in signal.points if point is not None]
        row = {
            "signal": signal.name,
            "value": _value(signal.unit, signal.value, signal.maximum if signal.unit == "count" else None),
            "lowest": _value(signal.unit, min(known, default=None)),
            "highest": _value(signal.unit, max(known, default=None)),
        }
        rows.append(row | ({"chart": chart(signal)} if with_charts else {}))
    table(console, rows)


def can_draw(console: Console) -> bool:
    """Return whether the output is a terminal that shows the characters of charts."""
    return console.is_terminal and not console.is_dumb_terminal and sys.stdout.encoding.lower().startswith("utf")


def chart(signal: Signal) -> str:
    """Return the points as blocks from 0 to their maximum, the newest last; a space where there is no data."""
    points = signal.points[-MAX_CHART:]
    top = max([signal.maximum or 0.0, *(point for point in points if point is not None)], default=0.0)
    return "".join(" " if point is None else _block(point, top) for point in points).rstrip()


def _block(value: float, top: float) -> str:
    return BLOCKS[min(len(BLOCKS) - 1, int(value / top * len(BLOCKS)))] if top > 0 else BLOCKS[0]


def _value(unit: Unit, value: float | None, maximum: float | None = None) -> str:
    if value is None:
        return EMPTY
    match unit:
        case "per_second":
            return f"{value:,.3g}/s" if value < 1000 else f"{value:,.0f}/s"
        case "seconds":
            return f"{value * 1000:.3g} ms" if value < 1 else format_duration(timedelta(seconds=value))
        case "ratio":
            return f"{value:.1%}"
        case "count":
            return f"{value:,.0f}" + (f" of {maximum:,.0f}" if maximum is not None else "")
