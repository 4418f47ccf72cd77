"""Metrics on a full disk: no process is ended, and what was counted before is not lost."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.metrics import slot_files
from tests.disks import fill, mount_small_disk
from tests.metrics.sharing_processes import SharingProcess, completed_turns

pytestmark = pytest.mark.process


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 16 MB as the home of the processes."""
    with mount_small_disk(tmp_path / "home", megabytes=16) as folder:
        yield folder


def test_process_on_a_disk_that_fills_up_counts_on(start: Callable[..., SharingProcess], home: Path) -> None:
    process = start()
    process.send("count 2")
    fill(home)
    process.send("count 3")
    process.send("pool 7")
    assert completed_turns(process.scrape()) == 5


def test_successor_on_a_full_disk_continues_the_counts(start: Callable[..., SharingProcess], home: Path) -> None:
    watching, killed = start(), start()
    killed.send("count 5")
    slot = killed.send("slot")
    fill(home)
    killed.end(signal.SIGKILL)
    successor = start()
    assert successor.send("slot") == slot
    successor.send("count 2")
    assert completed_turns(watching.scrape()) == 7


def test_additional_process_on_a_full_disk_serves_without_exposing_its_values(
    start: Callable[..., SharingProcess], home: Path
) -> None:
    watching = start()
    watching.send("count 5")
    ballast = fill(home)
    additional = start()
    additional.send("count 2")
    additional.send("fork 1")
    assert completed_turns(additional.scrape()) == completed_turns(watching.scrape()) == 5
    ballast.unlink()
    later = start()
    later.send("count 1")
    assert completed_turns(watching.scrape()) == 6


def test_first_process_on_a_full_disk_runs(start: Callable[..., SharingProcess], home: Path) -> None:
    fill(home)
    process = start()
    process.send("count 2")
    process.scrape()
    assert not process.ended


def test_new_children_of_a_metric_get_their_blocks_first(start: Callable[..., SharingProcess], home: Path) -> None:
    """A thousand routes outgrow the files that a process has at its start."""
    process = start()
    fill(home)
    process.send("routes 2000")
    other = {"method": "__other__", "route": "__other__", "status_class": "__other__"}
    assert 1000 < process.scrape().value("http_request_duration_seconds_count", **other) < 2000


def test_files_have_all_their_blocks(start: Callable[..., SharingProcess], tmp_path: Path) -> None:
    slot = start().send("slot")
    folder = tmp_path / "home/run/metrics"
    for kind, size in slot_files.SIZES.items():
        status = (folder / f"{kind}_{slot}.db").stat()
        assert status.st_size >= size
        assert status.st_blocks * 512 >= size
