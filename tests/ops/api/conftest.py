"""The application of wsgi.py, and users of its admin API."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served
from tests.factories import LoggedInUser


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    served = as_served(settings)
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    return served.test_client()


@pytest.fixture
def operator(make_user: Callable[..., LoggedInUser]) -> LoggedInUser:
    return make_user(role="operator")


@pytest.fixture
def admin(make_user: Callable[..., LoggedInUser]) -> LoggedInUser:
    return make_user(role="admin")
