"""Disks: how much is left, and for how long."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from app.repositories.statement import Statement
from ops.checks.encryption import peer_address, socket_of
from ops.checks.probe import Probe
from ops.figures.counters import database_bytes
from ops.figures.growth import growth
from ops.findings import CannotJudge, Finding
from ops.levels import Level
from ops.words import size

LOW, VERY_LOW = 0.15, 0.05  # of a disk that are left
LITTLE, NEARLY_NOTHING = 2 * 2**30, 512 * 2**20  # bytes left; on a small disk the shares say too late
PLENTY = 100 * 2**30  # bytes left that are enough, however large the disk
SMALL = 2**30  # a database that is no concern yet, however fast it grows
WINDOW = timedelta(weeks=1)
SOON, VERY_SOON = timedelta(days=30), timedelta(days=7)  # until the disk is full
STARTED_WITHIN = 60  # seconds between a server's writing its file and its taking connections
FAST = 0.5  # of its size, within a week

FOLDER = Statement(
    "ops.data_folder",
    """
SELECT current_setting('data_directory', true) AS folder, (SELECT count(*) FROM pg_tablespace) AS tablespaces,
       extract(epoch FROM pg_postmaster_start_time())::int8 AS started_at""",
)


def disk(probe: Probe) -> Iterator[Finding]:
    """A finding for each disk that is nearly full: that of PARLEY_HOME, and the database's where that can be known."""
    yield from _judge("PARLEY_HOME", probe.settings.server.home.absolute())
    yield from _judge("The database", data_folder(probe))


def grows(probe: Probe) -> Iterator[Finding]:
    """A finding if the disk will soon be full at the rate of the last week, or the database grew much in it."""
    total = database_bytes(probe.connection)
    if total < SMALL:
        return
    now = probe.now
    report = growth(probe.connection, since=now - WINDOW, now=now)
    first = report.tables[0] if report.tables else None
    evidence = {
        "database": size(total),
        "grown": size(report.grown_bytes),
        "days": report.days,
        "a_day": size(report.bytes_a_day),
        "most": None if first is None else f"{first.table} {size(first.grown_bytes)}",
    }
    before = total - report.grown_bytes
    if before > 0 and report.grown_bytes / before / report.days * 7 >= FAST:
        yield Finding(
            level=Level.WARNING,
            what=f"The database grew by {size(report.grown_bytes)} in {report.days:.1f} days, most of all "
            f"{first.table if first else 'nothing of ours'}.",
            evidence=evidence,
            remedy="flask ops growth --weeks 4; flask ops archive plan",
        )
    if report.bytes_a_day > 0:
        free = shutil.disk_usage(data_folder(probe)).free
        left = timedelta(days=min(free / report.bytes_a_day, 36_500))
        if left <= SOON:
            yield Finding(
                level=Level.CRITICAL if left <= VERY_SOON else Level.WARNING,
                what=f"At the rate of the last {report.days:.1f} days the database's disk is full in {left.days} days.",
                evidence={**evidence, "free": size(free)},
                remedy="Make room, or a larger disk: flask ops growth --weeks 4; flask ops archive plan",
            )


def data_folder(probe: Probe) -> Path:
    """Where the database's files are. Raises `CannotJudge` where that is another host, or may not be looked at."""
    if not is_here(probe):
        raise CannotJudge(
            "The database runs on another host, whose disk cannot be seen from here.",
            remedy="There: df -h; or an alert on its disk",
        )
    row = FOLDER.one(probe.connection, {})
    if row is None or not row.folder:
        raise CannotJudge(
            "The database does not tell this account where its files are.",
            remedy="GRANT pg_read_all_settings TO the account of DATABASE_DIRECT_URL",
        )
    folder = Path(row.folder)
    try:
        started_at = int((folder / "postmaster.pid").read_text().splitlines()[2])
    except (OSError, ValueError, IndexError) as error:
        raise CannotJudge(
            f"The database's folder {folder} cannot be looked at from here ({type(error).__name__}).",
            remedy=f"As an account that may: df -h {folder}",
        ) from None
    if abs(started_at - row.started_at) > STARTED_WITHIN:
        raise CannotJudge(f"Another server than the one that answers works in {folder}.", remedy="There: df -h")
    return folder


def is_here(probe: Probe) -> bool:
    """Whether the connection ends on this host; it may be forwarded from here all the same."""
    peer = peer_address(socket_of(probe.connection))
    return peer is None or peer in ("127.0.0.1", "::1")


def _judge(whose: str, folder: Path) -> Iterator[Finding]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    share = usage.free / (usage.free + usage.used)  # of what there is for us; some systems keep a part for root
    if usage.free >= PLENTY or (share >= LOW and usage.free >= LITTLE):
        return
    grave = share < VERY_LOW or usage.free < NEARLY_NOTHING
    yield Finding(
        level=Level.CRITICAL if grave else Level.WARNING,
        what=f"{whose} has {size(usage.free)} left on its disk, {share:.0%} of it.",
        evidence={"folder": str(there), "free": size(usage.free), "total": size(usage.total)},
        remedy=f"See what takes it: du -xh {there} | sort -h | tail; flask ops growth --weeks 4",
    )
