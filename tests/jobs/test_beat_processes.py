"""Two beats and a worker with two processes: each slot runs once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import EVERY_SECOND
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-beats")]


def test_two_beats_on_one_home_run_each_slot_once_also_after_a_restart(
    start: Callable[..., CeleryProcess], worker: CeleryProcess, runs: Callable[..., list[Any]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    beats = [start("beat", PARLEY_HOME=str(home)).wait_for_log("beat started") for _ in range(2)]

    def enough_runs() -> list[Any]:
        rows = runs(job=EVERY_SECOND)
        statuses = Counter(row.status for row in rows)
        return rows if statuses["succeeded"] >= 4 and statuses["skipped"] >= 3 else []

    rows = wait_until(enough_runs)
    slots = Counter(row.slot for row in rows if row.status != "skipped")
    assert max(slots.values()) == 1
    assert all(slot is not None and slot.microsecond == 0 for slot in slots)
    assert {row.reason for row in rows if row.status == "skipped"} <= {
        "it has just run",
        "another run of it is in progress",
    }
    assert sorted(path.stem for path in (home / "run").glob("beat-*.lock")) == ["beat-1", "beat-2"]
    stopped, killed = beats
    assert stopped.end() == 0
    assert [line for line in stopped.log().splitlines() if not line.startswith('{"time": ')] == []
    killed.kill()

    before = len(runs(job=EVERY_SECOND))
    restarted = start("beat", PARLEY_HOME=str(home)).wait_for_log("beat started")
    rows = wait_until(lambda: rows if len(rows := runs(job=EVERY_SECOND)) > before + 2 else [])
    assert "Removing corrupted" not in restarted.log()
    assert max(Counter(row.slot for row in rows if row.status != "skipped").values()) == 1
