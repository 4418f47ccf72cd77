"""A worker whose database is unreachable for a while: its jobs run afterwards."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import make_url

from app.config import Settings
from tests.faults.proxy import Proxy
from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import DAILY, ECHO, EVERY_SECOND
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-no-database")]


@pytest.fixture
def database_proxy(settings: Settings) -> Iterator[Proxy]:
    """Start a proxy to the database."""
    with Proxy(("127.0.0.1", make_url(str(settings.database.url)).port or 5432)) as proxy:
        yield proxy


def test_scheduled_job_is_delayed_until_the_database_is_reachable(
    database_proxy: Proxy,
    settings: Settings,
    start: Callable[..., CeleryProcess],
    send: Callable[..., str],
    wait_for_runs: Callable[..., list[Any]],
    runs: Callable[..., list[Any]],
) -> None:
    assert DAILY.schedule is not None
    assert EVERY_SECOND.schedule is not None
    url = make_url(str(settings.database.url)).set(host="127.0.0.1", port=database_proxy.port)
    worker = start("worker", DATABASE_URL=url.render_as_string(hide_password=False), WORKER_CONCURRENCY="1")
    wait_for_runs(send(ECHO, word="connected"))
    database_proxy.cut()
    slot = DAILY.schedule.slot(datetime.now(UTC))
    daily = send(DAILY, headers={"slot": slot.isoformat()})
    requested = send(DAILY)
    frequent = send(EVERY_SECOND, headers={"slot": EVERY_SECOND.schedule.slot(datetime.now(UTC)).isoformat()})
    wait_until(lambda: worker.log().count("job sample.daily: no database") >= 4)
    database_proxy.repair()
    (row,) = wait_for_runs(daily)
    assert (row.slot, row.attempt) == (slot, 1)
    wait_for_runs(requested, "succeeded", "skipped")  # skipped if both were delivered at the same moment
    assert runs(message_id=frequent) == []  # a later slot has begun
