"""Query performance: what took most of the database's time, by our own names."""

from dataclasses import asdict
from datetime import timedelta

from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.figures.slow import is_ours, slow

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
SHOWN = 10


def of_a_day(probe: Probe) -> Told:
    """What took most time in the last day, all calls together."""
    return _told(probe, DAY, by="total_seconds")


def of_a_week(probe: Probe) -> Told:
    """What took longest on average in the last week."""
    return _told(probe, WEEK, by="mean_ms")


def _told(probe: Probe, window: timedelta, *, by: str) -> Told:
    now = probe.now
    report = slow(probe.connection, since=now - window, until=now)
    ours = sorted(filter(is_ours, report.statements), key=lambda each: float(getattr(each, by)), reverse=True)
    first = f"; {ours[0].statement} comes first, with {ours[0].mean_ms:,.1f} ms on average" if ours else ""
    return Told(
        says=f"{report.calls:,} calls took {report.total_seconds:,.1f} s since {report.since:%Y-%m-%d %H:%M}{first}",
        figures={"since": report.since, "why": report.why, "calls": report.calls, "seconds": report.total_seconds},
        rows=tuple(asdict(each) for each in ours[:SHOWN]),
    )
