"""Two beats and two workers after weeks of downtime: each scheduled job runs once."""

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from app.config import Settings
from ops.catalogue.jobs import JOBS
from tests.database import migrated_database
from tests.jobs.processes import PROJECT, CeleryProcess
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-catalogue-beats")]

SCHEDULED = {job.name: job.schedule for job in JOBS if job.schedule}

# Writes the files of two beats that sent their last messages 40 days ago.
AGE_BEATS = """
import sys
from datetime import timedelta
from pathlib import Path
from ops.catalogue.jobs import JOBS
from tasks.schedule import SlotScheduler, make_beat

for _ in range(2):
    celery_app = make_beat(sys.argv[1], JOBS, Path(sys.argv[2]))
    scheduler = SlotScheduler(celery_app, schedule_filename=celery_app.conf.beat_schedule_filename)
    for entry in scheduler.schedule.values():
        entry.last_run_at -= timedelta(days=40)
    scheduler.close()
"""


@pytest.fixture
def database(postgres: str, worker_id: str, testrun_uid: str, settings: Settings) -> Iterator[Engine]:
    """Create a database without runs of other tests."""
    with migrated_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_beats") as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.mark.timeout(240)
def test_each_job_runs_once_for_its_missed_slots_and_never_concurrently(
    start: Callable[..., CeleryProcess], broker: str, database: Engine, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", AGE_BEATS, broker, str(home)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    variables = {
        "DATABASE_URL": make_url(str(database.url)).set(password=database.url.password).render_as_string(False),
        "PARLEY_HOME": str(home),
        "BACKUP_URL": (tmp_path / "backups").as_uri(),
    }
    began = datetime.now(UTC)
    workers = [start("worker", "tasks.worker", WORKER_CONCURRENCY="2", **variables) for _ in range(2)]
    beats = [start("beat", "tasks.beat", **variables) for _ in range(2)]

    def all_ended() -> list[Any]:
        with database.connect() as connection:
            rows = list(connection.execute(text("SELECT * FROM job_runs WHERE slot IS NOT NULL ORDER BY started_at")))
        finished = {row.job for row in rows if row.status in ("succeeded", "failed")}
        return rows if finished == set(SCHEDULED) else []

    rows = wait_until(all_ended, lambda: "\n".join(process.log()[-3000:] for process in (*workers, *beats)))
    for process in (*beats, *workers):
        process.end()
    slots = Counter((row.job, row.slot) for row in rows if row.status != "skipped")
    assert [slot for slot, times in slots.items() if times > 1] == []
    by_job = defaultdict(list)
    for row in rows:
        if row.status != "skipped":
            by_job[row.job].append(row)
    for name, schedule in SCHEDULED.items():
        first = by_job[name][0]
        assert first.slot in (schedule.slot(began), schedule.slot(first.started_at)), name
        for earlier, later in zip(by_job[name], by_job[name][1:], strict=False):
            assert earlier.finished_at is not None, name
            assert earlier.finished_at <= later.started_at, name
