"""Processes that count together: nothing is lost when one is killed, nothing goes back when one is replaced."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingsError
from app.metrics import folder
from tests.metrics.scrape import Scrape, parse

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.process


class Counting:
    """One process of tests/metrics/counting.py."""

    def __init__(self, home: Path, **environment: str) -> None:
        plain = {name: value for name, value in os.environ.items() if name != folder.VARIABLE}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.metrics.counting", str(home)],
            cwd=ROOT,
            env={**plain, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, what: str) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def scrape(self) -> Scrape:
        return parse(self.tell("render"))

    def end(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait(30)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Counting]]:
    """A function that starts a process which counts in this test's own home."""
    started: list[Counting] = []

    def start(**environment: str) -> Counting:
        process = Counting(tmp_path / "home", **environment)
        started.append(process)
        process.tell("seat")  # it is there
        return process

    yield start
    for process in started:
        if not process.ended:
            process.end()


def turns(scrape: Scrape) -> float:
    return scrape.value("turns_total", status="completed")


def test_everybody_shows_what_everybody_has_counted(start: Callable[..., Counting]) -> None:
    processes = [start() for _ in range(3)]
    for number, process in enumerate(processes, 1):
        process.tell(f"count {number}")
    for process in processes:
        seen = process.scrape()
        assert turns(seen) == 6
        assert seen.value("turn_duration_seconds_count") == 6
        assert seen.value("turn_duration_seconds_bucket", le="+Inf") == 6
        assert seen.value("turns_running") == 0
    assert len({process.tell("seat") for process in processes}) == 3


def test_what_a_killed_process_counted_stays_and_its_successor_counts_on(start: Callable[..., Counting]) -> None:
    watching, killed = start(), start()
    killed.tell("count 5")
    killed.tell("begin")
    assert watching.scrape().value("turns_running") == 1
    seat = killed.tell("seat")
    killed.end(signal.SIGKILL)
    assert turns(watching.scrape()) == 5
    assert watching.scrape().value("turns_running") == 0  # nobody lives who answers it
    successor = start()
    assert successor.tell("seat") == seat
    assert turns(watching.scrape()) == 5
    assert watching.scrape().value("turns_running") == 0
    successor.tell("count 2")
    assert turns(watching.scrape()) == turns(successor.scrape()) == 7


def test_replacing_processes_makes_no_more_files(start: Callable[..., Counting], tmp_path: Path) -> None:
    start()
    for _ in range(4):
        process = start()
        process.tell("count 1")
        process.end(signal.SIGKILL)
    assert len(list((tmp_path / "home/run/metrics").glob("counter_*.db"))) == 2


def test_who_comes_while_nobody_lives_begins_anew(start: Callable[..., Counting]) -> None:
    for _ in range(2):
        process = start()
        assert turns(process.scrape()) == 0
        process.tell("count 3")
        process.tell("tick 1700000000")
        process.tell("read interactive")
        seen = process.scrape()
        assert turns(seen) == 3
        assert seen.value("queue_length", queue="interactive") == 1
        process.end()
    seen = start().scrape()
    assert seen.labels("queue_length", "queue") == set()
    assert seen.value("beat_last_tick_timestamp_seconds") == 0


def test_one_of_several_that_restarts_finds_its_counts(start: Callable[..., Counting]) -> None:
    worker, web = start(), start()
    web.tell("count 4")
    web.end(signal.SIGTERM)
    web = start()
    assert turns(web.scrape()) == 4
    worker.end()  # now the other one alone
    assert turns(start().scrape()) == 4


def test_what_somebody_set_last_outlives_him(start: Callable[..., Counting]) -> None:
    watching, first, second = start(), start(), start()
    first.tell("tick 1700000000")
    second.tell("tick 1700000060")
    second.end()
    assert watching.scrape().value("beat_last_tick_timestamp_seconds") == 1700000060
    first.tell("tick 1700000120")
    assert watching.scrape().value("beat_last_tick_timestamp_seconds") == 1700000120


def test_pools_are_told_apart(start: Callable[..., Counting]) -> None:
    """One process may have none left while the others have plenty."""
    first, second = start(), start()
    first.tell("pool 30")
    second.tell("pool 2")
    seen = first.scrape()
    by_process = {seat: seen.value("db_pool_max", process=seat) for seat in seen.labels("db_pool_max", "process")}
    assert sorted(by_process.values()) == [2, 30]
    first.end()
    assert second.scrape().value("db_pool_max") == 2


def test_readings_are_shown_by_everybody(start: Callable[..., Counting]) -> None:
    reader, other = start(), start()
    reader.tell("read interactive")
    assert other.scrape().labels("queue_length", "queue") == {"interactive"}
    reader.tell("read maintenance")
    reader.end()
    assert other.scrape().labels("queue_length", "queue") == {"maintenance"}


def test_a_forked_child_counts_for_itself(start: Callable[..., Counting], tmp_path: Path) -> None:
    process = start()
    process.tell("count 10")
    for number in (1, 2, 3):
        process.tell(f"fork {number}")
        process.tell("count 10")
    assert turns(process.scrape()) == 46
    assert len(list((tmp_path / "home/run/metrics").glob("counter_*.db"))) == 2


def test_the_variable_names_another_folder(start: Callable[..., Counting], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    strangers = ["theirs.db", "counter_1.db", "notes.json", "readings.json", "seat_one.lock"]
    for name in strangers:
        (elsewhere / name).write_text("not ours")
    for _ in range(2):  # the second one finds it with nobody in it, and clears it of ours alone
        process = start(**{folder.VARIABLE: str(elsewhere)})
        process.tell("count 1")
        process.end()
    assert [(elsewhere / name).read_text() for name in strangers] == ["not ours"] * len(strangers)
    assert list(elsewhere.glob("counter_1-*.db"))
    assert not (tmp_path / "home/run/metrics").exists()


def test_counts_of_other_declarations_are_left_alone(start: Callable[..., Counting], tmp_path: Path) -> None:
    """As after an upgrade of one process: the same name may have had other buckets."""
    process = start()
    process.tell("count 3")
    kept = tmp_path / "home/run/metrics"
    for path in kept.glob("*.db"):
        kind, _, seat = path.stem.rpartition("_")
        (kept / f"{kind}_{seat.split('-')[0]}-00000000.db").write_bytes(path.read_bytes())
    assert turns(process.scrape()) == 3
    assert process.scrape().value("turn_duration_seconds_count") == 3


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_presence", None)
    monkeypatch.delitem(sys.modules, "app.metrics.registry")
    monkeypatch.delenv(folder.VARIABLE, raising=False)
    in_the_way = tmp_path / "home"
    in_the_way.write_text("a file")
    with pytest.raises(SettingsError, match=f"{in_the_way}.*set PARLEY_HOME or PROMETHEUS_MULTIPROC_DIR"):
        folder.share(in_the_way)
    assert folder.VARIABLE not in os.environ


def test_sharing_comes_before_declaring(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="too late"):
        folder.share(tmp_path)
    assert list(tmp_path.iterdir()) == []
