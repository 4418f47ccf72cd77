"""Two beats and a worker with two processes: each slot once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.processes import CeleryProcess, eventually
from tests.jobs.sample_jobs import EVERY_SECOND

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-beats")]


def test_two_beats_on_one_home_run_each_slot_once_and_so_does_one_that_begins_again(
    start: Callable[..., CeleryProcess], worker: CeleryProcess, runs: Callable[..., list[Any]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    beats = [start("beat", PARLEY_HOME=str(home)).says("the beat begins") for _ in range(2)]

    def enough() -> list[Any]:
        rows = runs(job=EVERY_SECOND)
        known = Counter(row.status for row in rows)
        return rows if known["succeeded"] >= 4 and known["skipped"] >= 3 else []

    rows = eventually(enough)
    slots = Counter(row.slot for row in rows if row.status != "skipped")
    assert max(slots.values()) == 1
    assert all(slot is not None and slot.microsecond == 0 for slot in slots)
    assert {row.reason for row in rows if row.status == "skipped"} <= {
        "it has just run",
        "another run of it holds its lock",
    }
    assert sorted(path.stem for path in (home / "run").glob("beat-*.lock")) == ["beat-1", "beat-2"]
    ended, killed = beats
    assert ended.end() == 0
    assert [line for line in ended.log().splitlines() if not line.startswith('{"time": ')] == []
    killed.kill()

    known = len(runs(job=EVERY_SECOND))
    again = start("beat", PARLEY_HOME=str(home)).says("the beat begins")
    rows = eventually(lambda: found if len(found := runs(job=EVERY_SECOND)) > known + 2 else [])
    assert "Removing corrupted" not in again.log()
    assert max(Counter(row.slot for row in rows if row.status != "skipped").values()) == 1
