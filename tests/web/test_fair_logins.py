"""Logins of many connections of a few accounts do not delay the login of another account."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from tests.factories import PASSWORD, LoggedInUser
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

CONNECTIONS = 10  # of each of four accounts


def test_login_waits_for_one_turn_of_each_other_account(
    flask_app: Flask, database_url: str, tmp_path: Path, make_user: Callable[..., LoggedInUser]
) -> None:
    others, users = [make_user() for _ in range(4)], [make_user() for _ in range(3)]
    stop, completed = threading.Event(), list[int]()
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", AI_PROVIDER="demo") as server:

        def log_in(account: LoggedInUser) -> int:
            body = {"email": account.email, "password": PASSWORD}
            return server.post("/api/auth/login", body, {}).status

        def log_in_again_and_again(account: LoggedInUser) -> None:
            while not stop.is_set():
                completed.append(log_in(account))

        with ThreadPoolExecutor(4 * CONNECTIONS) as pool:
            for account in others * CONNECTIONS:
                pool.submit(log_in_again_and_again, account)
            try:
                wait_until(lambda: completed.count(200) > 2 * len(others))
                before = completed.count(200)
                assert [log_in(user) for user in users] == [200] * 3
                served = completed.count(200) - before
            finally:
                stop.set()
    # For each login: the one in progress, at most one turn of each other account, and a few that end at the same time.
    assert served <= len(users) * 2 * (len(others) + 1)
    assert set(completed) <= {200, 503}
