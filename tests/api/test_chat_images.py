"""Images of messages: content parts for providers that take images, and answers without them for others."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Exchange
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Attach = Callable[..., str]
MAX_BYTES = 1000


def png(size: int = 200, fill: bytes = b"x") -> bytes:
    return (b"\x89PNG\r\n\x1a\n" + fill * size)[:size]


@pytest.fixture(scope="module")
def chat_app(make_chat_app: Callable[..., Flask], upstream: Upstream) -> Flask:
    provider = {
        "name": "compatible",
        "openai_base_url": upstream.base_url,
        "image_providers": ("compatible",),
        "retries": 0,
        "circuit_failures": 1_000_000,
    }
    return make_chat_app(provider=provider, files={"max_image_bytes": MAX_BYTES, "max_images": 3})


@pytest.fixture
def attach(client: FlaskClient, user: LoggedInUser) -> Attach:
    """Return a function that uploads an image."""

    def attach(content: bytes, name: str = "photo.png") -> str:
        response = client.put("/api/files", query_string={"name": name}, data=content, headers=user.headers)
        assert response.status_code == 201, response.text
        return str(response.json["id"])

    return attach


def refusing(message: str, code: int = 400) -> Any:
    """Return a script that answers with an error as long as the request has an image."""

    async def script(exchange: Exchange) -> None:
        content = exchange.json()["messages"][-1]["content"]
        chosen = scripts.words(2) if isinstance(content, str) else scripts.api_error(code, message)
        await chosen(exchange)

    return script


def content(upstream: Upstream, index: int = -1) -> Any:
    return upstream.requests[index].body["messages"][-1]["content"]


def test_image_is_sent_as_a_content_part(chat: Chat, attach: Attach, upstream: Upstream) -> None:
    image = png()
    response = chat("What is it?", files=[attach(image)])
    assert response.status_code == 200
    text, part = content(upstream)
    assert text["type"] == "text"
    assert text["text"].endswith("What is it?")
    assert '"photo.png"' in text["text"]
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    assert part == {"type": "image_url", "image_url": {"url": url}}
    assert response.json["message"]["metadata"] == {}


def test_images_of_earlier_messages_follow_those_of_the_message(chat: Chat, attach: Attach, upstream: Upstream) -> None:
    first = chat("What is it?", files=[attach(png(fill=b"a"), "a.png")])
    chat("And this?", files=[attach(png(fill=b"b"), "b.png")], conversation_id=first.json["conversation"]["id"])
    text, *parts = content(upstream)
    assert text["text"].index('"b.png"') < text["text"].index('"a.png"')
    assert len(parts) == 2


def test_image_that_is_only_in_the_project_is_not_sent(
    chat: Chat, client: FlaskClient, user: LoggedInUser, upstream: Upstream
) -> None:
    project = client.post("/api/projects", json={"name": "P"}, headers=user.headers).json["id"]
    client.put(f"/api/projects/{project}/files", query_string={"name": "a.png"}, data=png(), headers=user.headers)
    assert chat("hello", project_id=project).status_code == 200
    assert isinstance(content(upstream), str)


def test_images_over_the_limits_are_left_out(chat: Chat, attach: Attach, upstream: Upstream) -> None:
    large = attach(png(MAX_BYTES + 1), "large.png")
    small = [attach(png(fill=str(number).encode()), f"{number}.png") for number in range(4)]
    response = chat("What are these?", files=[large, *small])
    assert len(content(upstream)) == 1 + 3
    left_out = response.json["message"]["metadata"]["files_left_out"]
    assert left_out == [
        {"file_id": large, "name": "large.png", "reason": "limit"},
        {"file_id": small[3], "name": "3.png", "reason": "limit"},
    ]
    assert 'The file "large.png" is not shown' in content(upstream)[0]["text"]


def test_image_that_the_store_does_not_give_is_left_out(
    chat: Chat, attach: Attach, upstream: Upstream, flask_app: Flask
) -> None:
    attach_folder = flask_app.extensions["parley"].settings.server.home / "files"
    before = set(attach_folder.iterdir()) if attach_folder.exists() else set()
    file_id = attach(png(), "lost.png")
    for path in set(attach_folder.iterdir()) - before:
        path.unlink()
    response = chat("What is it?", files=[file_id])
    assert isinstance(content(upstream), str)
    reason = {"file_id": file_id, "name": "lost.png", "reason": "unavailable"}
    assert response.json["message"]["metadata"]["files_left_out"] == [reason]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Invalid content type. image_url is only supported by certain models.", 400),
        ("fake-model is not a multimodal model", 400),
        ("No endpoints found that support image input", 404),
        ("image input is not supported - hint: you may need to provide the mmproj", 500),
        ("messages[0].content must be a string", 400),
        ("unknown variant `image_url`, expected `text`", 422),
    ],
)
def test_request_that_is_rejected_because_of_images_is_repeated_without_them(
    chat: Chat, attach: Attach, upstream: Upstream, message: str, code: int
) -> None:
    upstream.script = refusing(message, code)
    requests = len(upstream.requests)
    response = chat("What is it?", files=[attach(png())])
    assert response.status_code == 200
    assert len(upstream.requests) == requests + 2
    assert "are not shown, because this model takes no images" in content(upstream)
    assert response.json["message"]["metadata"] == {"dropped_options": ["images"]}
    # The cause may have been this image, so the next one is sent.
    chat("And this?", files=[attach(png(fill=b"z"), "z.png")])
    assert isinstance(content(upstream, requests + 2), list)


def test_provider_that_is_not_listed_gets_no_images(
    make_chat_app: Callable[..., Flask], attach: Attach, upstream: Upstream, user: LoggedInUser
) -> None:
    body = {"message": "What is it?", "files": [attach(png())]}
    response = make_chat_app().test_client().post("/api/chat", json=body, headers=user.headers)
    assert response.status_code == 200
    assert isinstance(content(upstream), str)
    assert response.json["message"]["metadata"] == {"dropped_options": ["images"]}
