"""A small campaign of faults under load; `make faults` runs a large one."""

import os
import random
from pathlib import Path

import pytest

from app.config import Settings
from tests.faults.campaign import run_campaign
from tests.faults.testbed import running_testbed

KILLS = 50  # `make faults` makes hundreds


@pytest.mark.process
@pytest.mark.timeout(600)  # long enough for a loaded machine
def test_faults_under_load_lose_and_duplicate_nothing_acknowledged(settings: Settings, tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(2**32))
    print(f"FAULTS_SEED={seed}")  # noqa: T201  # pytest shows it with a failure
    with running_testbed(settings, tmp_path) as testbed:
        report = run_campaign(testbed, seed=seed, kills=KILLS)
    for name, value in report.rows():
        print(f"{name}: {value}")  # noqa: T201  # likewise
    assert report.violations == {}
    assert report.turns["completed"] > KILLS
