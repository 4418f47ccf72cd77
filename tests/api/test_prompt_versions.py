"""Versions and drafts of prompts: what answers, what is kept, and changes at the same time."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.ids import new_id
from app.services.prompt_versions import VERSIONS_PER_PROMPT
from tests.api.rows import join_all, owned_rows, row_held, start_all, walk
from tests.factories import LoggedInUser
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Send = Callable[..., TestResponse]


@pytest.fixture
def project(chat_client: FlaskClient, user: LoggedInUser) -> str:
    return str(chat_client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"])


@pytest.fixture
def url(chat_client: FlaskClient, user: LoggedInUser, project: str) -> str:
    """Create a prompt with the content `one`, and return its URL."""
    body = {"title": "Tone", "content": "one"}
    created = chat_client.post(f"/api/projects/{project}/prompts", json=body, headers=user.headers)
    return str(created.headers["Location"])


@pytest.fixture
def send(chat_client: FlaskClient, user: LoggedInUser) -> Send:
    def send(method: str, path: str, body: dict[str, Any] | None = None) -> TestResponse:
        return chat_client.open(path, method=method, json=body, headers=user.headers)

    return send


def numbers(items: list[dict[str, Any]]) -> list[int]:
    return [item["number"] for item in items]


def test_each_change_of_the_content_is_a_version(
    send: Send, url: str, chat_client: FlaskClient, user: LoggedInUser
) -> None:
    created = send("GET", url).json
    for change in ({"content": "two"}, {"content": "two"}, {"title": "Voice"}, {"position": 7}, {"variables": True}):
        assert send("PATCH", url, change).status_code == 200
    changed = send("GET", url).json
    assert (changed["version"], changed["content"], changed["variables"]) == (3, "two", True)
    items = walk(chat_client, user, f"{url}/versions", limit=1)
    assert [(item["number"], item["characters"], item["variables"], item["current"]) for item in items] == [
        (3, 3, True, True),
        (2, 3, False, False),
        (1, 3, False, False),
    ]
    assert items[2]["created_at"] == created["created_at"]
    assert items == walk(chat_client, user, f"{url}/versions", limit=100)
    assert [send("GET", f"{url}/versions/{number}").json["content"] for number in (1, 2, 3)] == ["one", "two", "two"]
    assert send("GET", f"{url}/versions/3").json == {**items[0], "content": "two"}


def test_restore_is_a_new_version(send: Send, url: str) -> None:
    send("PATCH", url, {"content": "two {{date}}", "variables": True, "draft": "three"})
    restored = send("POST", f"{url}/versions/1/restore")
    assert restored.status_code == 200
    assert restored.json == send("GET", url).json
    assert {name: restored.json[name] for name in ("content", "variables", "version", "draft")} == {
        "content": "one",
        "variables": False,
        "version": 3,
        "draft": "three",
    }
    again = send("POST", f"{url}/versions/3/restore").json  # the current one
    assert again == restored.json
    assert send("GET", f"{url}/versions/2").json["content"] == "two {{date}}"


def test_only_the_newest_versions_are_kept(
    send: Send, url: str, chat_client: FlaskClient, user: LoggedInUser, engine: Engine
) -> None:
    for number in range(2, VERSIONS_PER_PROMPT + 3):
        assert send("PATCH", url, {"content": f"number {number}"}).json["version"] == number
    items = walk(chat_client, user, f"{url}/versions", limit=20)
    assert numbers(items) == list(range(VERSIONS_PER_PROMPT + 2, 2, -1))
    assert len(owned_rows(engine, user)["prompt_versions"]) == VERSIONS_PER_PROMPT - 1
    for method, path in (("GET", "versions/2"), ("POST", "versions/2/restore")):
        assert send(method, f"{url}/{path}").status_code == 404
    assert send("DELETE", url).status_code == 204
    assert owned_rows(engine, user)["prompt_versions"] == []


@pytest.mark.parametrize("number", ["0", "99", "2147483647", "2147483648", "-1", "one", "1" * 400])
def test_unknown_version_is_404(send: Send, url: str, number: str) -> None:
    for method, path in (("GET", f"versions/{number}"), ("POST", f"versions/{number}/restore")):
        assert send(method, f"{url}/{path}").status_code == 404


def test_prompt_of_another_project_is_404(send: Send, url: str) -> None:
    other = send("POST", "/api/projects", {"name": "Other"}).json["id"]
    prompt = url.rpartition("/")[2]
    for method, path in (
        ("GET", "versions"),
        ("GET", "versions/1"),
        ("POST", "versions/1/restore"),
        ("POST", "publish"),
    ):
        for project, one in ((other, prompt), (other, str(new_id()))):
            assert send(method, f"/api/projects/{project}/prompts/{one}/{path}").status_code == 404


def test_draft_answers_only_after_it_is_published(
    send: Send, url: str, chat: Chat, project: str, upstream: Upstream
) -> None:
    prompt = url.rpartition("/")[2]
    assert send("PATCH", url, {"draft": "דרפט 草稿"}).json["version"] == 1
    answer = chat(project_id=project).json
    assert upstream.requests[-1].body["messages"][0] == {"role": "system", "content": "one"}
    assert answer["message"]["metadata"] == {"prompts": [{"id": prompt, "version": 1}]}
    published = send("POST", f"{url}/publish").json
    assert (published["content"], published["draft"], published["version"]) == ("דרפט 草稿", None, 2)
    answer = chat(conversation_id=answer["conversation"]["id"]).json
    assert upstream.requests[-1].body["messages"][0]["content"] == "דרפט 草稿"
    assert answer["message"]["metadata"] == {"prompts": [{"id": prompt, "version": 2}]}
    assert send("POST", f"{url}/publish").status_code == 409
    assert send("GET", f"{url}/versions/1").json["content"] == "one"


def test_draft_can_be_discarded_and_may_equal_the_content(send: Send, url: str) -> None:
    send("PATCH", url, {"draft": "two"})
    assert send("PATCH", url, {"draft": None}).json["draft"] is None
    assert send("POST", f"{url}/publish").status_code == 409
    send("PATCH", url, {"draft": "one"})
    published = send("POST", f"{url}/publish").json
    assert (published["draft"], published["version"]) == (None, 1)


@pytest.mark.parametrize("draft", ["", " \n", "x" * 50_001, 1, {}])
def test_invalid_draft_is_400(send: Send, url: str, draft: Any) -> None:
    refused = send("PATCH", url, {"draft": draft})
    assert (refused.status_code, list(refused.json["errors"])) == (400, ["draft"])


def test_answer_names_enabled_prompts_in_order(send: Send, url: str, chat: Chat, project: str) -> None:
    first = url.rpartition("/")[2]
    prompts = f"/api/projects/{project}/prompts"
    send("POST", prompts, {"title": "off", "content": "off", "enabled": False})
    second = send("POST", prompts, {"title": "on", "content": "on"}).json["id"]
    send("PATCH", f"{prompts}/{second}", {"content": "on again"})
    assert chat(project_id=project).json["message"]["metadata"] == {
        "prompts": [{"id": first, "version": 1}, {"id": second, "version": 2}]
    }


def test_publish_and_change_at_the_same_time_are_two_versions(
    send: Send, url: str, engine: Engine, user: LoggedInUser
) -> None:
    send("PATCH", url, {"draft": "published"})
    with row_held(engine, "prompts", user, UUID(url.rpartition("/")[2])) as release:
        threads, results = start_all(
            lambda: send("POST", f"{url}/publish"), lambda: send("PATCH", url, {"content": "changed"})
        )
        release(2)
        join_all(threads)
    assert [result.status_code for result in results] == [200, 200]
    contents = [send("GET", f"{url}/versions/{number}").json["content"] for number in (1, 2, 3)]
    assert contents[0] == "one"
    assert sorted(contents[1:]) == ["changed", "published"]
    assert send("GET", url).json["content"] == contents[2]


def test_draft_is_published_once_by_requests_at_the_same_time(
    send: Send, url: str, engine: Engine, user: LoggedInUser
) -> None:
    send("PATCH", url, {"draft": "two"})
    with row_held(engine, "prompts", user, UUID(url.rpartition("/")[2])) as release:
        threads, results = start_all(*[lambda: send("POST", f"{url}/publish")] * 3)
        release(3)
        join_all(threads)
    assert sorted(result.status_code for result in results) == [200, 409, 409]
    assert send("GET", url).json["version"] == 2


def test_deletion_during_publish_is_404(send: Send, url: str, engine: Engine, user: LoggedInUser) -> None:
    send("PATCH", url, {"draft": "two"})
    with row_held(engine, "prompts", user, UUID(url.rpartition("/")[2])) as release:
        threads, results = start_all(lambda: send("POST", f"{url}/publish"))
        release(1, "DELETE FROM prompts WHERE user_id = :user_id AND id = :id")
        join_all(threads)
    assert [result.status_code for result in results] == [404]
    assert owned_rows(engine, user)["prompt_versions"] == []
