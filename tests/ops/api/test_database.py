"""The admin API of the database."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tests.factories import LoggedInUser

END = "/api/admin/database/sessions/end"


def test_pool_and_locks_are_returned(client: FlaskClient, operator: LoggedInUser) -> None:
    pool = client.get("/api/admin/database/pool", headers=operator.headers)
    assert pool.status_code == 200, pool.text
    assert sum(client["connections"] for client in pool.get_json()["clients"]) >= 1
    locks = client.get("/api/admin/database/locks", headers=operator.headers)
    assert locks.status_code == 200, locks.text


@pytest.mark.parametrize("what", ["slow", "growth"])
def test_growth_and_slow_statements_are_returned_or_conflict(
    client: FlaskClient, operator: LoggedInUser, what: str
) -> None:
    response = client.get(f"/api/admin/database/{what}", headers=operator.headers)
    assert response.status_code in (200, 409), response.text
    if response.status_code == 409:  # no statistics are collected, or none are stored yet
        assert response.get_json()["code"] == "conflict"
        assert "flask ops" in response.get_json()["detail"] or "CREATE EXTENSION" in response.get_json()["detail"]
    for wrong in ("0", "-1", "x", "1e9"):
        query = {"hours": wrong} if what == "slow" else {"weeks": wrong}
        refused = client.get(f"/api/admin/database/{what}", query_string=query, headers=operator.headers)
        assert refused.status_code == 400


def test_database_reports_require_operator(client: FlaskClient, user: LoggedInUser) -> None:
    for what in ("slow", "growth", "sizes", "locks", "pool"):
        assert client.get(f"/api/admin/database/{what}", headers=user.headers).status_code == 403
    assert client.post(END, json={"pid": 1}, headers=user.headers).status_code == 403


def test_sizes_are_returned(client: FlaskClient, operator: LoggedInUser) -> None:
    response = client.get("/api/admin/database/sizes", headers=operator.headers)
    assert response.status_code == 200, response.text
    tables = {size["table"]: size for size in response.get_json()["tables"]}
    assert tables["users"]["total_bytes"] >= tables["users"]["index_bytes"] > 0
    assert response.get_json()["database_bytes"] > tables["users"]["total_bytes"]


def test_session_is_ended_and_audited(client: FlaskClient, operator: LoggedInUser, engine: Engine) -> None:
    victim = engine.connect()
    pid = victim.scalar(text("SELECT pg_backend_pid()"))
    response = client.post(END, json={"pid": pid}, headers=operator.headers)
    assert (response.status_code, response.get_json()["ended"]) == (200, True), response.text
    with pytest.raises(DBAPIError):
        victim.execute(text("SELECT 1"))
    victim.invalidate()
    victim.close()
    query = {"target": str(pid), "action": "session.end", "limit": 1}
    [event] = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    assert (event["actor"], event["result"], event["details"]["ended"]) == (str(operator.id), "done", True)
    assert client.post(END, json={"pid": pid}, headers=operator.headers).status_code == 409
    for wrong in (0, -1, 2**31, 10**30, "1", None):
        refused = client.post(END, json={"pid": wrong}, headers=operator.headers)
        assert refused.status_code == 400, refused.text
