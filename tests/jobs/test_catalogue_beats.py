"""Two beats and two workers, as production has them, that come back after weeks: each job of the catalogue once."""

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from app.config import Settings
from ops.catalogue import JOBS
from tests.contracts.test_migrations import MIGRATIONS, application_on
from tests.database import fresh_database
from tests.jobs.processes import PROJECT, CeleryProcess, eventually

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("jobs-catalogue-beats")]

SCHEDULED = {job.name: job.schedule for job in JOBS if job.schedule}

# What two beats keep of what they sent, as it would be if they had been away for 40 days.
AWAY = """
import sys
from datetime import timedelta
from pathlib import Path
from ops.catalogue import JOBS
from tasks.schedule import SlotScheduler, make_beat

for _ in range(2):
    celery_app = make_beat(sys.argv[1], JOBS, Path(sys.argv[2]))
    kept = SlotScheduler(celery_app, schedule_filename=celery_app.conf.beat_schedule_filename)
    for entry in kept.schedule.values():
        entry.last_run_at -= timedelta(days=40)
    kept.close()
"""


@pytest.fixture
def database(postgres: str, worker_id: str, testrun_uid: str, settings: Settings) -> Iterator[Engine]:
    """Nobody else's runs are in it."""
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_beats") as url:
        with application_on(settings, url):
            flask_migrate.upgrade(directory=MIGRATIONS)
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.mark.timeout(240)
def test_every_job_runs_once_for_the_slot_it_missed_and_never_beside_itself(
    start: Callable[..., CeleryProcess], broker: str, database: Engine, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", AWAY, broker, str(home)], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    variables = {
        "DATABASE_URL": make_url(str(database.url)).set(password=database.url.password).render_as_string(False),
        "PARLEY_HOME": str(home),
        "BACKUP_URL": (tmp_path / "backups").as_uri(),
    }
    begun = datetime.now(UTC)
    workers = [start("worker", "tasks.worker", WORKER_CONCURRENCY="2", **variables) for _ in range(2)]
    beats = [start("beat", "tasks.beat", **variables) for _ in range(2)]

    def ended() -> list[Any]:
        with database.connect() as connection:
            rows = list(connection.execute(text("SELECT * FROM job_runs WHERE slot IS NOT NULL ORDER BY started_at")))
        at_end = {row.job for row in rows if row.status in ("succeeded", "failed")}
        return rows if at_end == set(SCHEDULED) else []

    rows = eventually(ended, log=lambda: "\n".join(process.log()[-3000:] for process in (*workers, *beats)))
    for process in (*beats, *workers):
        process.end()
    slots = Counter((row.job, row.slot) for row in rows if row.status != "skipped")
    assert [each for each, times in slots.items() if times > 1] == []
    by_job = defaultdict(list)
    for row in rows:
        if row.status != "skipped":
            by_job[row.job].append(row)
    for name, schedule in SCHEDULED.items():
        first = by_job[name][0]
        assert first.slot in (schedule.slot(begun), schedule.slot(first.started_at)), name
        for earlier, later in zip(by_job[name], by_job[name][1:], strict=False):
            assert earlier.finished_at is not None, name
            assert earlier.finished_at <= later.started_at, name
