"""How the tables grew."""

from dataclasses import asdict
from datetime import timedelta

from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.figures.growth import growth
from ops.words import size

SHOWN = 10


def of_a_week(probe: Probe) -> Told:
    """Since a week ago."""
    return _told(probe, timedelta(weeks=1))


def of_a_month(probe: Probe) -> Told:
    """Since thirty days ago."""
    return _told(probe, timedelta(days=30))


def _told(probe: Probe, window: timedelta) -> Told:
    now = probe.now
    report = growth(probe.connection, since=now - window, now=now)
    first = report.tables[0] if report.tables else None
    most = f", most of it {first.table} ({size(first.grown_bytes)})" if first and first.grown_bytes > 0 else ""
    younger = f"; {report.days:.1f} of {window.days} days, because {report.why}" if report.why else ""
    return Told(
        says=f"{size(report.database_bytes)}, {size(report.grown_bytes)} more than {report.days:.1f} days ago{most}"
        + younger,
        figures={
            "since": report.since,
            "why": report.why,
            "database_bytes": report.database_bytes,
            "grown_bytes": report.grown_bytes,
            "bytes_a_day": report.bytes_a_day,
        },
        rows=tuple(asdict(each) for each in report.tables[:SHOWN]),
    )
