"""The page at /docs: whole without the internet, strict about where its parts come from, and cheap the second time."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient


class Page(HTMLParser):
    """What an HTML document refers to, and what is in it that a strict policy would not run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._script = tag == "script"
        self.inline += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        if tag == "script":
            self.scripts.append(given.get("src") or "")
        elif "href" in given:
            self.links.append(given["href"] or "")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


@pytest.fixture
def client(flask_app: Flask) -> FlaskClient:
    return flask_app.test_client()


@pytest.fixture
def page(client: FlaskClient) -> Page:
    response = client.get("/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    return Page(response.text)


def test_all_that_it_refers_to_is_here(client: FlaskClient, page: Page) -> None:
    kinds = {"js": "text/javascript", "css": "text/css", "png": "image/png", "json": "application/json"}
    seen = set()
    for target in (*page.scripts, *page.links):
        url = urlsplit(urljoin("http://localhost/docs", target))
        assert url.netloc == "localhost", target
        response = client.get(url.path)
        assert (response.status_code, response.mimetype) == (200, kinds[url.path.rpartition(".")[2]])
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        seen.add(url.path)
    assert seen == {
        "/docs/swagger-ui-bundle.js",
        "/docs/start.js",
        "/docs/swagger-ui.css",
        "/docs/favicon.png",
        "/openapi.json",
    }


def test_its_policy_is_strict_and_it_keeps_to_it(client: FlaskClient, page: Page) -> None:
    policy = {
        words[0]: words[1:]
        for part in client.get("/docs").headers["Content-Security-Policy"].split(";")
        if (words := part.split())
    }
    assert policy["default-src"] == ["'self'"]
    assert {name: sources for name, sources in policy.items() if name.endswith("-src")} == {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
    }
    assert policy["frame-ancestors"] == ["'none'"]
    assert page.inline == []
    assert all(page.scripts)


def test_its_own_script_names_no_other_host(client: FlaskClient) -> None:
    script = client.get("/docs/start.js").text
    assert "//" not in script.replace(" // ", "")
    assert "validatorUrl: null" in script


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui-bundle.js", "/docs/start.js"])
def test_the_second_time_nothing_is_sent(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    part = client.get(path, headers={"Range": "bytes=0-3"})
    assert (part.status_code, len(part.data)) == (200, len(first.data))


@pytest.mark.parametrize(
    "name", ["index.html", "start.js.map", "../openapi.json", "%2e%2e/docs.py", "oauth2-redirect.html"]
)
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    response = client.get(f"/docs/{name}")
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
