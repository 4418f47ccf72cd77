"""The page at /: HTML for browsers, JSON for programs, and nothing that a strict policy blocks."""

import base64
import hashlib

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.test_docs_page import Page
from tests.waiting import wait_until

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def client(flask_app: Flask) -> FlaskClient:
    return flask_app.test_client()


def test_browser_gets_page_whose_links_are_served(client: FlaskClient) -> None:
    response = client.get("/", headers={"Accept": BROWSER})
    assert (response.status_code, response.mimetype) == (200, "text/html")
    page = Page(response.text)
    assert page.links == ["docs", "openapi.json", "health"]
    for link in page.links:  # a loaded machine is not healthy at each moment
        wait_until(lambda link=link: client.get(f"/{link}").status_code == 200, f"no page {link}")  # type: ignore[misc]


def test_page_complies_with_its_policy(client: FlaskClient) -> None:
    response = client.get("/", headers={"Accept": BROWSER})
    style = response.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    page = Page(response.text)
    assert (page.scripts, page.inline) == ([], [])
    assert "src=" not in response.text
    assert "://" not in response.text


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.9", "text/plain"])
def test_program_gets_json(client: FlaskClient, accept: str | None) -> None:
    response = client.get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.vary.as_set() >= {"accept"}
    links = response.json or {}
    assert {links[name] for name in ("documentation", "openapi", "health")} == {"/docs", "/openapi.json", "/health"}
    assert links["name"] == "Parley"
