"""The database goes away while somebody acts: what came of the act is told all the same."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from ops import audit
from ops.actors import Actor
from ops.audit import audited
from tests.ops.doctor.conftest import Ward

SOMEBODY = Actor(kind="command", name="somebody")


@pytest.fixture
def away(ward: Ward) -> Callable[[bool], None]:
    """A function that has the database refuse everybody, or not."""
    admin, name = ward.open(database="postgres"), ward.url.rpartition("/")[2]

    def refuse(away: bool) -> None:
        admin.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {not away}')
        if away:
            admin.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %(name)s", {"name": name}
            )

    return refuse


def results(ward: Ward) -> list[tuple[Any, ...]]:
    with ward.open() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT result, reason FROM audit_events")]


def fail_while(away: Callable[[bool], None]) -> None:
    with audited(by=SOMEBODY, action="index.apply"):
        away(True)
        raise ZeroDivisionError


def test_what_was_done_is_told_although_nobody_could_note_it(
    ward: Ward, away: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "KEEP_TRYING", 0.2)
    with ward.flask_app.app_context():
        with audited(by=SOMEBODY, action="index.apply") as notes:
            notes["level"] = "critical"
            away(True)
        with pytest.raises(DBAPIError):
            audited(by=SOMEBODY, action="index.apply").__enter__()  # what cannot be written down is not done
        away(False)
        with pytest.raises(ZeroDivisionError):
            fail_while(away)
    away(False)
    assert [result for result, _ in results(ward)] == ["begun", "begun"]
    assert "the end of index.apply was not written down: done" in caplog.text


def test_an_end_is_noted_once_the_database_is_back(
    ward: Ward, away: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, write = [], audit._write

    def watched(ended: Mapping[str, Any]) -> None:
        tried.append(ended)
        if len(tried) == 2:
            away(False)
        write(ended)

    monkeypatch.setattr(audit, "_write", watched)
    with ward.flask_app.app_context(), audited(by=SOMEBODY, action="index.apply"):
        away(True)
    assert len(tried) >= 2
    assert results(ward) == [("done", None)]
