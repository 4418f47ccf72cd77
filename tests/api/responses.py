"""Assertions about responses, and the header of a token."""

from typing import Any

from werkzeug.test import TestResponse


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assert_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Assert that the response is a problem with this status and code, and return its body."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json"), response.text
    assert response.json is not None
    assert response.json["code"] == code
    return dict(response.json)


def assert_unauthenticated(response: TestResponse, detail: str = "") -> dict[str, Any]:
    """Assert that the response is a 401 whose detail contains `detail`, and return its body."""
    body = assert_problem(response, 401, "not_authenticated")
    assert detail in body["detail"]
    assert response.headers["WWW-Authenticate"] == "Bearer"
    return body
