"""Files with the demo provider, and their citations after the conversation was bundled and exported."""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser
from tests.file_texts import store_text


def test_demo_quotes_a_file_of_the_project(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    project = client.post("/api/projects", json={"name": "P"}, headers=user.headers).json["id"]
    lines = "The gate is green. The code of the gate is 4711. Ask Ada."
    url = f"/api/projects/{project}/files"
    file_id = client.put(url, query_string={"name": "gate.txt"}, data=lines.encode(), headers=user.headers).json["id"]
    store_text(engine, user, file_id, ["Nothing of interest.", lines])
    body = {"message": "What is the code of the gate?", "project_id": project, "stream": False}
    message = client.post("/api/chat", json=body, headers=user.headers).json["message"]
    assert "In “gate.txt”, passage 2: “The code of the gate is 4711.”" in message["content"]
    assert message["metadata"]["citations"][0]["passages"] == [1, 2]


def test_references_and_citations_stay_in_bundles_and_exports(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: LoggedInUser
) -> None:
    file_id = client.put("/api/files", query_string={"name": "a.txt"}, data=b"abc", headers=user.headers).json["id"]
    store_text(engine, user, file_id, ["The code is 4711."])
    body = {"message": "What is the code?", "files": [file_id], "stream": False}
    conversation_id = client.post("/api/chat", json=body, headers=user.headers).json["conversation"]["id"]

    def stored(path: str) -> list[dict[str, Any]]:
        document = client.get(f"/api/conversations/{conversation_id}{path}", headers=user.headers).json
        messages: list[dict[str, Any]] = document.get("items") or document["messages"]
        return [message["metadata"] for message in messages]

    before = stored("/messages")
    assert before[0]["files"][0]["id"] == file_id
    assert before[1]["citations"][0]["file_id"] == file_id
    with flask_app.app_context():
        bundle_conversation(user.id, conversation_id)
    assert stored("/messages") == before
    assert stored("/export") == before
