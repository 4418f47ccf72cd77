"""A PgBouncer whose connections to the server are all in use."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import make_url

from tests.api.conftest import _plain_script, chat_app, make_chat_app, rows, upstream
from tests.connections.pgbouncer import POOL_SIZE, pgbouncer
from tests.factories import LoggedInUser

__all__ = ["_plain_script", "chat_app", "make_chat_app", "rows", "upstream"]

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("pgbouncer")]


def test_request_that_pgbouncer_lets_wait_too_long_gets_503(
    make_chat_app: Callable[..., Flask], database_url: str, user: LoggedInUser
) -> None:
    with pgbouncer(database_url, extra="query_wait_timeout = 1") as pooler, ExitStack() as transactions:
        flask_app = make_chat_app(database={"url": pooler.url, "direct_url": database_url})
        client = flask_app.test_client()
        assert client.get("/api/conversations", headers=user.headers).status_code == 200
        plain = make_url(pooler.url).set(drivername="postgresql").render_as_string(hide_password=False)
        for _ in range(POOL_SIZE):
            connection: Any = transactions.enter_context(closing(psycopg2.connect(plain)))
            connection.cursor().execute("SELECT 1")  # opens a transaction, which occupies a connection of the server
        response = client.get("/api/conversations", headers=user.headers)
        assert (response.status_code, response.json["code"]) == (503, "database_unavailable")
        assert "Retry-After" in response.headers
        transactions.close()
        assert client.get("/api/conversations", headers=user.headers).status_code == 200
