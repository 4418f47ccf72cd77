"""The page at /docs: complete without the internet, with a strict policy, and revalidated by ETag."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient


class Page(HTMLParser):
    """The references of an HTML document, and its inline parts that a strict policy blocks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self._script = tag == "script"
        self.inline += [f"<{tag} {name}>" for name in values if name.startswith("on") or name == "style"]
        if tag == "script":
            self.scripts.append(values.get("src") or "")
        elif "href" in values:
            self.links.append(values["href"] or "")

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


def test_all_references_are_served(client: FlaskClient, page: Page) -> None:
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


def test_policy_is_strict_and_page_complies(client: FlaskClient, page: Page) -> None:
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


def test_script_names_no_other_host(client: FlaskClient) -> None:
    script = client.get("/docs/start.js").text
    assert "//" not in script.replace(" // ", "")
    assert "validatorUrl: null" in script


@pytest.mark.parametrize("option", ['docExpansion: "none"', "filter: true", "persistAuthorization: true"])
def test_tags_are_folded_filtered_and_token_is_kept(client: FlaskClient, option: str) -> None:
    assert f"  {option},\n" in client.get("/docs/start.js").text


def test_access_token_is_first_in_authorization_dialog(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json or {}
    assert next(iter(document["components"]["securitySchemes"])) == "accessToken"


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui-bundle.js", "/docs/start.js"])
def test_unchanged_file_is_304(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    repeated = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (repeated.status_code, repeated.data) == (304, b"")
    part = client.get(path, headers={"Range": "bytes=0-3"})
    assert (part.status_code, len(part.data)) == (200, len(first.data))


@pytest.mark.parametrize(
    "name", ["index.html", "start.js.map", "../openapi.json", "%2e%2e/docs.py", "oauth2-redirect.html"]
)
def test_other_file_is_404(client: FlaskClient, name: str) -> None:
    response = client.get(f"/docs/{name}")
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
