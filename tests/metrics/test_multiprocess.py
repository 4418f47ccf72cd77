"""Metrics shared by processes: a killed process loses no counts, and a replaced one never sets a counter back."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.metrics import multiprocess
from app.metrics.registry import create_metrics
from tests.metrics.sharing_processes import SharingProcess, completed_turns

pytestmark = pytest.mark.process


def test_scrape_of_any_process_shows_sum_of_all(start: Callable[..., SharingProcess]) -> None:
    processes = [start() for _ in range(3)]
    for number, process in enumerate(processes, 1):
        process.send(f"count {number}")
    for process in processes:
        seen = process.scrape()
        assert completed_turns(seen) == 6
        assert seen.value("turn_duration_seconds_count") == 6
        assert seen.value("turn_duration_seconds_bucket", le="+Inf") == 6
        assert seen.value("turns_running") == 0
    assert len({process.send("slot") for process in processes}) == 3


def test_counts_survive_kill_and_continue_in_successor(start: Callable[..., SharingProcess]) -> None:
    watching, killed = start(), start()
    killed.send("count 5")
    killed.send("begin")
    assert watching.scrape().value("turns_running") == 1
    slot = killed.send("slot")
    killed.end(signal.SIGKILL)
    assert completed_turns(watching.scrape()) == 5
    assert watching.scrape().value("turns_running") == 0  # its process is dead
    successor = start()
    assert successor.send("slot") == slot
    assert completed_turns(watching.scrape()) == 5
    assert watching.scrape().value("turns_running") == 0
    successor.send("count 2")
    assert completed_turns(watching.scrape()) == completed_turns(successor.scrape()) == 7


def test_replaced_processes_reuse_files(start: Callable[..., SharingProcess], tmp_path: Path) -> None:
    start()
    for _ in range(4):
        process = start()
        process.send("count 1")
        process.end(signal.SIGKILL)
    assert len(list((tmp_path / "home/run/metrics").glob("counter_*.db"))) == 2


def test_first_living_process_empties_folder(start: Callable[..., SharingProcess]) -> None:
    for _ in range(2):
        process = start()
        assert completed_turns(process.scrape()) == 0
        process.send("count 3")
        process.send("tick 1700000000")
        process.send("read interactive")
        seen = process.scrape()
        assert completed_turns(seen) == 3
        assert seen.value("queue_length", queue="interactive") == 1
        process.end()
    seen = start().scrape()
    assert seen.labels("queue_length", "queue") == set()
    assert seen.value("beat_last_tick_timestamp_seconds") == 0


def test_counts_survive_restart_while_another_process_lives(start: Callable[..., SharingProcess]) -> None:
    worker, web = start(), start()
    web.send("count 4")
    web.end(signal.SIGTERM)
    web = start()
    assert completed_turns(web.scrape()) == 4
    worker.end()  # only the web process remains
    assert completed_turns(start().scrape()) == 4


def test_mostrecent_gauge_keeps_value_of_ended_process(start: Callable[..., SharingProcess]) -> None:
    watching, first, second = start(), start(), start()
    first.send("tick 1700000000")
    second.send("tick 1700000060")
    second.end()
    assert watching.scrape().value("beat_last_tick_timestamp_seconds") == 1700000060
    first.send("tick 1700000120")
    assert watching.scrape().value("beat_last_tick_timestamp_seconds") == 1700000120


def test_liveall_gauge_has_one_series_per_process(start: Callable[..., SharingProcess]) -> None:
    """One process may have no connection left while the others have enough."""
    first, second = start(), start()
    first.send("pool 30")
    second.send("pool 2")
    seen = first.scrape()
    by_process = {slot: seen.value("db_pool_max", process=slot) for slot in seen.labels("db_pool_max", "process")}
    assert sorted(by_process.values()) == [2, 30]
    first.end()
    assert second.scrape().value("db_pool_max") == 2


def test_external_gauges_are_exposed_by_all_processes(start: Callable[..., SharingProcess]) -> None:
    reader, other = start(), start()
    reader.send("read interactive")
    assert other.scrape().labels("queue_length", "queue") == {"interactive"}
    reader.send("read maintenance")
    reader.end()
    assert other.scrape().labels("queue_length", "queue") == {"maintenance"}


def test_forked_child_takes_its_own_slot(start: Callable[..., SharingProcess], tmp_path: Path) -> None:
    process = start()
    process.send("count 10")
    for number in (1, 2, 3):
        process.send(f"fork {number}")
        process.send("count 10")
    assert completed_turns(process.scrape()) == 46
    assert len(list((tmp_path / "home/run/metrics").glob("counter_*.db"))) == 2


def test_variable_names_another_folder(start: Callable[..., SharingProcess], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other_files = ["theirs.db", "counter_1.db", "notes.json", "external.json", "slot_one.lock"]
    for name in other_files:
        (elsewhere / name).write_text("not Parley's")
    for _ in range(2):  # the second process empties the folder, of files of Parley's alone
        process = start(**{multiprocess.VARIABLE: str(elsewhere)})
        process.send("count 1")
        process.end()
    assert [(elsewhere / name).read_text() for name in other_files] == ["not Parley's"] * len(other_files)
    assert list(elsewhere.glob("counter_1-*.db"))
    assert not (tmp_path / "home/run/metrics").exists()


def test_files_of_other_declarations_are_ignored(start: Callable[..., SharingProcess], tmp_path: Path) -> None:
    """After an upgrade the same name may have other buckets."""
    process = start()
    process.send("count 3")
    folder = tmp_path / "home/run/metrics"
    for path in folder.glob("*.db"):
        kind, _, slot = path.stem.rpartition("_")
        (folder / f"{kind}_{slot.split('-')[0]}-00000000.db").write_bytes(path.read_bytes())
    assert completed_turns(process.scrape()) == 3
    assert process.scrape().value("turn_duration_seconds_count") == 3


def test_unusable_folder_raises_settings_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocess, "_alive_lock", None)
    monkeypatch.setattr(multiprocess, "_kept_in_memory", False)
    monkeypatch.delenv(multiprocess.VARIABLE, raising=False)
    file = tmp_path / "home"
    file.write_text("a file")
    with pytest.raises(SettingsError, match=f"{file}.*set PARLEY_HOME or PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.share(file)
    assert multiprocess.VARIABLE not in os.environ


def test_share_after_first_metric_raises(tmp_path: Path) -> None:
    create_metrics()
    with pytest.raises(RuntimeError, match="must be called before"):
        multiprocess.share(tmp_path)
    assert list(tmp_path.iterdir()) == []
