"""A pooler in the way: seen, told apart by its mode, and what it drops."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url

from ops.levels import Level
from tests.fakes.pooler import Pooler
from tests.ops.doctor.conftest import Ward


@pytest.fixture
def url(shared_url: str) -> str:
    """Nothing here changes the database for good."""
    return shared_url


@pytest.fixture
def pooled(url: str) -> Iterator[Callable[[bool], str]]:
    """A function that puts a pooler before the database and gives the URL through it."""
    server = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with ExitStack() as stack:

        def put(transaction: bool) -> str:
            pooler = stack.enter_context(Pooler(server, transaction=transaction))
            return make_url(url).set(host="127.0.0.1", port=pooler.port).render_as_string(hide_password=False)

        yield put


def test_locks_through_transaction_mode_are_critical(admit: Callable[..., Ward], pooled: Callable[[bool], str]) -> None:
    ward = admit(database={"url": pooled(True)})
    (finding,) = ward.ask("connection.pooler").findings
    assert finding.level is Level.CRITICAL
    assert finding.what.startswith("DATABASE_URL leads through a pooler in transaction mode")
    assert str(finding.remedy).startswith("Set DATABASE_DIRECT_URL")


def test_a_direct_url_that_is_not_direct_is_critical(
    admit: Callable[..., Ward], url: str, pooled: Callable[[bool], str]
) -> None:
    (finding,) = admit(database={"url": url, "direct_url": pooled(True)}).ask("connection.pooler").findings
    assert finding.what.startswith("DATABASE_DIRECT_URL leads through")


def test_a_pooler_with_a_way_past_it_is_well(
    admit: Callable[..., Ward], url: str, pooled: Callable[[bool], str]
) -> None:
    ward = admit(database={"url": pooled(True), "direct_url": url})
    for check in ("pooler", "same_database", "reachable", "privileges"):
        assert ward.ask(f"connection.{check}").level is Level.OK, check


def test_session_mode_keeps_locks(admit: Callable[..., Ward], pooled: Callable[[bool], str]) -> None:
    assert admit(database={"url": pooled(False)}).ask("connection.pooler").level is Level.OK


def test_one_connection_is_enough_to_ask(admit: Callable[..., Ward], pooled: Callable[[bool], str]) -> None:
    ward = admit(database={"url": pooled(True), "pool_size": 1, "max_overflow": 0, "pool_timeout": 1})
    assert ward.ask("connection.pooler").level is Level.CRITICAL


def test_timeouts_that_a_pooler_drops(admit: Callable[..., Ward], url: str, pooled: Callable[[bool], str]) -> None:
    (finding,) = admit(database={"url": pooled(True), "direct_url": url}).ask("connection.timeouts").findings
    assert finding.level is Level.WARNING
    assert finding.evidence["statement_timeout"] == {"wanted_ms": 15_000, "is_ms": 0}
    assert "SET statement_timeout = 15000" in str(finding.sql)
