"""What operators see of the database itself."""

import pytest
from flask.testing import FlaskClient

from tests.factories import Account


def test_who_is_connected_and_who_waits(client: FlaskClient, operator: Account) -> None:
    pool = client.get("/api/admin/database/pool", headers=operator.headers)
    assert pool.status_code == 200, pool.text
    assert sum(each["connections"] for each in pool.get_json()["clients"]) >= 1
    locks = client.get("/api/admin/database/locks", headers=operator.headers)
    assert locks.status_code == 200, locks.text


@pytest.mark.parametrize("what", ["slow", "growth"])
def test_figures_are_told_or_said_to_be_unknown(client: FlaskClient, operator: Account, what: str) -> None:
    answer = client.get(f"/api/admin/database/{what}", headers=operator.headers)
    assert answer.status_code in (200, 409), answer.text
    if answer.status_code == 409:  # nobody counts here, or nothing was written down yet
        assert answer.get_json()["code"] == "conflict"
        assert "flask ops" in answer.get_json()["detail"] or "CREATE EXTENSION" in answer.get_json()["detail"]
    for wrong in ("0", "-1", "x", "1e9"):
        query = {"hours": wrong} if what == "slow" else {"weeks": wrong}
        refused = client.get(f"/api/admin/database/{what}", query_string=query, headers=operator.headers)
        assert refused.status_code == 400


def test_it_is_for_operators(client: FlaskClient, user: Account) -> None:
    for what in ("slow", "growth", "locks", "pool"):
        assert client.get(f"/api/admin/database/{what}", headers=user.headers).status_code == 403
