"""The audit when the database becomes unreachable during an action."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement
from ops.runs import audit, retries
from ops.runs.actors import Actor
from ops.runs.audit import audited
from tests.ops.doctor.conftest import DoctorInstall

ACTOR = Actor(kind="command", name="operator")


@pytest.fixture
def set_unreachable(install: DoctorInstall) -> Callable[[bool], None]:
    """Return a function that makes the database refuse connections, or accept them again."""
    admin, name = install.open(database="postgres"), install.url.rpartition("/")[2]

    def refuse(set_unreachable: bool) -> None:
        admin.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {not set_unreachable}')
        if set_unreachable:
            admin.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %(name)s", {"name": name}
            )

    return refuse


def results(install: DoctorInstall) -> list[tuple[Any, ...]]:
    with install.open() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT result, reason FROM audit_events")]


def fail_while(set_unreachable: Callable[[bool], None]) -> None:
    with audited(actor=ACTOR, action="index.apply"):
        set_unreachable(True)
        raise ZeroDivisionError


def test_result_is_reported_when_the_audit_cannot_be_written(
    install: DoctorInstall,
    set_unreachable: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(audit, "RETRY_SECONDS", 0.2)
    with install.flask_app.app_context():
        with audited(actor=ACTOR, action="index.apply") as notes:
            notes["level"] = "critical"
            set_unreachable(True)
        with pytest.raises(DBAPIError):
            audited(actor=ACTOR, action="index.apply").__enter__()  # an action that cannot be recorded is not started
        set_unreachable(False)
        with pytest.raises(ZeroDivisionError):
            fail_while(set_unreachable)
    set_unreachable(False)
    assert [result for result, _ in results(install)] == ["begun", "begun"]
    assert "the result of index.apply was not recorded: done" in caplog.text


def test_audit_is_completed_when_the_database_returns(
    install: DoctorInstall, set_unreachable: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, execute = [], retries._execute

    def watched(statement: Statement, ended: Mapping[str, Any]) -> None:
        tried.append(ended)
        if len(tried) == 2:
            set_unreachable(False)
        execute(statement, ended)

    monkeypatch.setattr(retries, "_execute", watched)
    with install.flask_app.app_context(), audited(actor=ACTOR, action="index.apply"):
        set_unreachable(True)
    assert len(tried) >= 2
    assert results(install) == [("done", None)]
