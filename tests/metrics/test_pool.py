"""Metrics of the connection pool: waits, uses and timeouts of real threads."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app import pool
from app.config import Settings
from app.database import engine_options
from app.dialect import register_dialect
from app.extensions import db
from app.factory import create_app
from app.pool import MeasuredPool
from tests.metrics.scrape import Since, here
from tests.waiting import wait_until

HELD = 0.15  # seconds


@pytest.fixture
def make_engine(settings: Settings) -> Iterator[Callable[..., Engine]]:
    """Yield a function that makes an engine as the application does; keyword arguments are database settings."""
    register_dialect()
    made: list[Engine] = []

    def make(url: str | None = None, **changes: float) -> Engine:
        engine = create_engine(
            url or settings.database.url or "",
            **engine_options(settings.database.model_copy(update=changes)),
            poolclass=MeasuredPool,
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def single_connection(make_engine: Callable[..., Engine]) -> Engine:
    """Return an engine with one connection, already open."""
    engine = make_engine(pool_size=1, max_overflow=0)
    engine.connect().close()
    return engine


def test_wait_for_connection_is_recorded(single_connection: Engine) -> None:
    since = Since()
    with ThreadPoolExecutor(1) as threads:
        with single_connection.connect():
            waiting = threads.submit(lambda: single_connection.connect().close())
            wait_until(lambda: since.counted("db_pool_pending_requests") == 1)
            began = time.perf_counter()
            threading.Event().wait(HELD)
            waited = time.perf_counter() - began
        waiting.result()
    assert since.counted("db_pool_wait_seconds_sum") >= waited
    assert since.counted("db_pool_wait_seconds_count") == 2
    assert since.counted("db_pool_wait_seconds_bucket", le="0.1") == 1  # the first one did not wait
    assert since.counted("db_pool_pending_requests") == 0
    assert since.counted("db_pool_timeouts_total") == 0


def test_failed_wait_is_a_timeout(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=1, max_overflow=0, pool_timeout=HELD)
    since = Since()
    with engine.connect():
        for _ in range(2):
            with pytest.raises(PoolTimeout):
                engine.connect()
        assert since.counted("db_pool_timeouts_total") == 2
        assert since.counted("db_pool_wait_seconds_sum") >= 2 * HELD * 0.9  # the pool measures with another clock
        assert since.counted("db_pool_wait_seconds_count") == 3
        assert since.counted("db_pool_pending_requests") == 0
        assert since.counted("db_pool_use_seconds_count") == 0


def test_fraction_of_a_second_is_a_pool_timeout_of_the_application(settings: Settings) -> None:
    """Flask-SQLAlchemy converts the options of its engines: 0.5 must not become 0, which would not wait at all."""
    database = settings.database.model_copy(update={"pool_timeout": 0.5})
    flask_app = create_app(replace(settings, database=database))
    with flask_app.app_context():
        assert db.engine.pool.timeout() == 0.5  # type: ignore[attr-defined]
        db.engine.dispose()


def test_use_ends_when_connection_is_returned(single_connection: Engine) -> None:
    since = Since()
    with single_connection.connect():
        began = time.perf_counter()
        threading.Event().wait(HELD)
        used = time.perf_counter() - began
        assert since.counted("db_pool_use_seconds_count") == 0
    assert since.counted("db_pool_use_seconds_count") == 1
    assert since.counted("db_pool_use_seconds_sum") >= used


def test_connection_gauges_match_pool(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=1, max_overflow=1)
    assert numbers() == {"used": 0, "idle": 0, "overflow": 0, "max": 2}  # SQLAlchemy's overflow starts at -1
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


def test_request_waits_briefly_before_overflow(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overflow connection would be opened for one statement and closed after it."""
    monkeypatch.setattr(pool, "OVERFLOW_DELAY", 20)
    engine, opened = make_engine(pool_size=1, max_overflow=5), list[object]()
    event.listen(engine, "connect", lambda connection, _: opened.append(connection))
    since = Since()
    with ThreadPoolExecutor(5) as threads:
        with engine.connect():
            waiting = [threads.submit(lambda: engine.connect().close()) for _ in range(5)]
            wait_until(lambda: since.counted("db_pool_pending_requests") == 5)
        for future in waiting:
            future.result()
    assert len(opened) == 1


def test_numbers_agree_after_many_threads(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(pool_size=3, max_overflow=2)
    since = Since()

    def use_connection(_: int) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(use_connection, range(300)))
    assert numbers()["used"] == 0
    assert numbers()["overflow"] == 0
    assert 1 <= numbers()["idle"] <= 3
    assert since.counted("db_pool_wait_seconds_count") == since.counted("db_pool_use_seconds_count") == 300
    assert since.counted("db_pool_pending_requests") == 0


def test_failed_connect_counts_wait_but_no_use(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine("postgresql+psycopg2://parley@127.0.0.1:1/nothing", connect_timeout=2)
    since = Since()
    with pytest.raises(OperationalError):
        engine.connect()
    assert since.counted("db_pool_wait_seconds_count") == 1
    assert since.counted("db_pool_use_seconds_count") == 0
    assert since.counted("db_pool_timeouts_total") == 0
    assert since.counted("db_pool_pending_requests") == 0
    assert numbers()["used"] == 0


@pytest.mark.parametrize("end", ["closed", "invalidated", "detached", "collected"])
def test_use_ends_however_the_connection_ends(single_connection: Engine, end: str) -> None:
    since = Since()
    connection = single_connection.connect()
    if end == "invalidated":
        connection.invalidate()
    if end == "detached":
        connection.detach()
    if end == "collected":
        connection.close()
        leaked = single_connection.pool.connect()
        del leaked
        gc.collect()
        assert since.counted("db_pool_use_seconds_count") == 2
    else:
        connection.close()
        assert since.counted("db_pool_use_seconds_count") == 1
    assert numbers()["used"] == 0
    with single_connection.connect() as next_connection:  # the pool still has one
        assert next_connection.execute(text("SELECT 1")).scalar_one() == 1


def test_connection_returned_after_dispose_is_not_counted(single_connection: Engine) -> None:
    connection = single_connection.connect()
    single_connection.dispose()
    assert numbers()["used"] == 0
    with single_connection.connect():
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
