"""A worker whose way to the database is cut and mended: what was asked for meanwhile is done afterwards."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import make_url

from app.config import Settings
from tests.jobs.processes import CeleryProcess, Gate, eventually
from tests.jobs.sample_jobs import DAILY, ECHO, EVERY_SECOND

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-no-database")]


@pytest.fixture
def wire(settings: Settings) -> Iterator[Gate]:
    """The way to the database."""
    gate = Gate(make_url(str(settings.database.url)).port or 5432)
    yield gate
    gate.shut()


def test_what_the_clock_asked_for_is_put_off_until_the_database_is_back(
    wire: Gate,
    settings: Settings,
    start: Callable[..., CeleryProcess],
    send: Callable[..., str],
    ended: Callable[..., list[Any]],
    runs: Callable[..., list[Any]],
) -> None:
    assert DAILY.schedule is not None
    assert EVERY_SECOND.schedule is not None
    url = make_url(str(settings.database.url)).set(host="127.0.0.1", port=wire.port)
    worker = start("worker", DATABASE_URL=url.render_as_string(hide_password=False), WORKER_CONCURRENCY="1")
    ended(send(ECHO, word="connected"))
    wire.shut()
    slot = DAILY.schedule.slot(datetime.now(UTC))
    daily = send(DAILY, headers={"slot": slot.isoformat()})
    by_hand = send(DAILY)
    soon = send(EVERY_SECOND, headers={"slot": EVERY_SECOND.schedule.slot(datetime.now(UTC)).isoformat()})
    eventually(lambda: worker.log().count("job sample.daily: no database") >= 4)
    wire.open()
    (row,) = ended(daily)
    assert (row.slot, row.attempt) == (slot, 1)
    ended(by_hand, "succeeded", "skipped")  # skipped where both came at the same moment
    assert runs(message_id=soon) == []  # its next slot has come long since
