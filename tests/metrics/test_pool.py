"""The pool as it measures itself: waits, uses and refusals that really happen, between threads that really wait."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import pool
from app.config import Settings
from app.database import engine_options
from tests.metrics.scrape import Since, here

HELD = 0.15  # seconds


@pytest.fixture
def make_engine(settings: Settings) -> Iterator[Callable[..., Engine]]:
    """A function that makes an engine as the application does; keyword arguments are settings of the database."""
    made: list[Engine] = []

    def make(url: str | None = None, **changes: float) -> Engine:
        engine = create_engine(
            url or settings.database.url or "", **engine_options(settings.database.model_copy(update=changes))
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def alone(make_engine: Callable[..., Engine]) -> Engine:
    """An engine with one connection, which has been opened."""
    engine = make_engine(pool_size=1, max_overflow=0)
    engine.connect().close()
    return engine


def test_the_time_that_somebody_waits_is_counted(alone: Engine, wait_until: Callable[..., None]) -> None:
    since = Since()
    with ThreadPoolExecutor(1) as threads:
        with alone.connect():
            waiting = threads.submit(lambda: alone.connect().close())
            wait_until(lambda: since.counted("db_pool_pending_requests") == 1)
            began = time.perf_counter()
            threading.Event().wait(HELD)
            waited = time.perf_counter() - began  # at the very least
        waiting.result()
    assert since.counted("db_pool_wait_seconds_sum") >= waited
    assert since.counted("db_pool_wait_seconds_count") == 2
    assert since.counted("db_pool_wait_seconds_bucket", le="0.1") == 1  # the other did not wait
    assert since.counted("db_pool_pending_requests") == 0
    assert since.counted("db_pool_timeouts_total") == 0


def test_a_wait_in_vain_is_a_timeout(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=1, max_overflow=0, pool_timeout=HELD)
    since = Since()
    with engine.connect():
        for _ in range(2):
            with pytest.raises(PoolTimeout):
                engine.connect()
        assert since.counted("db_pool_timeouts_total") == 2
        assert since.counted("db_pool_wait_seconds_sum") >= 2 * HELD * 0.9  # the pool's own clock is not ours
        assert since.counted("db_pool_wait_seconds_count") == 3
        assert since.counted("db_pool_pending_requests") == 0
        assert since.counted("db_pool_use_seconds_count") == 0


def test_the_time_of_use_ends_when_the_connection_comes_back(alone: Engine) -> None:
    since = Since()
    with alone.connect():
        began = time.perf_counter()
        threading.Event().wait(HELD)
        used = time.perf_counter() - began
        assert since.counted("db_pool_use_seconds_count") == 0
    assert since.counted("db_pool_use_seconds_count") == 1
    assert since.counted("db_pool_use_seconds_sum") >= used


def test_the_numbers_of_connections_are_the_pools(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=1, max_overflow=1)
    assert numbers() == {"used": 0, "idle": 0, "overflow": 0, "max": 2}  # SQLAlchemy's own overflow begins at -1
    first = engine.connect()
    assert numbers() == {"used": 1, "idle": 0, "overflow": 0, "max": 2}
    second = engine.connect()
    assert numbers() == {"used": 2, "idle": 0, "overflow": 1, "max": 2}
    first.close()
    assert numbers() == {"used": 1, "idle": 1, "overflow": 1, "max": 2}
    second.close()
    assert numbers() == {"used": 0, "idle": 1, "overflow": 0, "max": 2}
    engine.dispose()
    assert numbers() == {"used": 0, "idle": 0, "overflow": 0, "max": 2}


def test_a_connection_that_comes_back_soon_is_worth_waiting_for(
    make_engine: Callable[..., Engine], wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more would be opened for one statement, and closed after it."""
    monkeypatch.setattr(pool, "PATIENCE", 20)
    engine, opened = make_engine(pool_size=1, max_overflow=5), list[object]()
    event.listen(engine, "connect", lambda connection, _: opened.append(connection))
    since = Since()
    with ThreadPoolExecutor(5) as threads:
        with engine.connect():
            waiting = [threads.submit(lambda: engine.connect().close()) for _ in range(5)]
            wait_until(lambda: since.counted("db_pool_pending_requests") == 5)
        for each in waiting:
            each.result()
    assert len(opened) == 1


def test_numbers_agree_after_a_crowd(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=3, max_overflow=2)
    since = Since()

    def one(number: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(one, range(300)))
    assert numbers()["used"] == 0
    assert numbers()["overflow"] == 0
    assert 1 <= numbers()["idle"] <= 3
    assert since.counted("db_pool_wait_seconds_count") == since.counted("db_pool_use_seconds_count") == 300
    assert since.counted("db_pool_pending_requests") == 0


def test_a_connection_that_cannot_be_opened_is_waited_for_but_not_used(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine("postgresql+psycopg2://nobody@127.0.0.1:1/nothing", connect_timeout=2)
    since = Since()
    with pytest.raises(OperationalError):
        engine.connect()
    assert since.counted("db_pool_wait_seconds_count") == 1
    assert since.counted("db_pool_use_seconds_count") == 0
    assert since.counted("db_pool_timeouts_total") == 0
    assert since.counted("db_pool_pending_requests") == 0
    assert numbers()["used"] == 0


@pytest.mark.parametrize("end", ["closed", "invalidated", "detached", "forgotten"])
def test_a_use_ends_however_the_connection_ends(alone: Engine, end: str) -> None:
    since = Since()
    connection = alone.connect()
    if end == "invalidated":
        connection.invalidate()
    if end == "detached":
        connection.detach()
    if end == "forgotten":
        raw = alone.pool
        connection.close()
        leaked = raw.connect()
        del leaked
        gc.collect()
        assert since.counted("db_pool_use_seconds_count") == 2
    else:
        connection.close()
        assert since.counted("db_pool_use_seconds_count") == 1
    assert numbers()["used"] == 0
    with alone.connect() as again:  # and there is one to be had
        assert again.execute(text("SELECT 1")).scalar_one() == 1


def test_what_comes_back_after_the_pool_was_disposed_of_is_counted_no_more(alone: Engine) -> None:
    connection = alone.connect()
    alone.dispose()
    assert numbers()["used"] == 0
    with alone.connect():
        connection.close()
        assert numbers()["used"] == 1
        assert numbers()["idle"] == 0


def numbers() -> dict[str, float]:
    seen = here()
    return {
        "used": seen.value("db_pool_connections", state="used"),
        "idle": seen.value("db_pool_connections", state="idle"),
        "overflow": seen.value("db_pool_overflow"),
        "max": seen.value("db_pool_max"),
    }
