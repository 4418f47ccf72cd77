"""Processes killed and wires cut at random moments under a load of people chatting; `make faults` does more of it."""

import os
import random
from pathlib import Path

import pytest

from app.config import Settings
from tests.faults.campaign import campaign
from tests.faults.world import world

KILLS = 50  # `make faults` makes hundreds


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(600)  # a busy machine is no fault
def test_nothing_acknowledged_is_lost_or_doubled_whatever_is_killed(settings: Settings, tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(2**32))
    print(f"FAULTS_SEED={seed}")  # noqa: T201  # shown beside a failure
    with world(settings, tmp_path) as made:
        figures = campaign(made, seed=seed, kills=KILLS)
    for name, value in figures.rows():
        print(f"{name}: {value}")  # noqa: T201  # likewise
    assert figures.violations == {}
    assert figures.turns["completed"] > KILLS
