"""Objects of a user, one of each kind that a path can name."""

import json
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import text
from werkzeug.routing import Rule

from app.extensions import db
from ops.archive.holds import hold_conversation
from tests.bundling import bundle_conversation
from tests.contracts.application import path_of
from tests.factories import LoggedInUser, insert_user


class OwnedObjects:
    """Objects of `owner`, created through the API. With `archived`, also an archival run and a legal hold."""

    def __init__(self, flask_app: Flask, owner: LoggedInUser, *, archived: bool = False) -> None:
        self.owner = owner
        client = flask_app.test_client()

        def create(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = client.post(path, json=body, headers=owner.headers)
            assert response.status_code in (200, 201), response.text
            assert response.json is not None
            return dict(response.json)

        chat = create("/api/chat", {"message": "hello"})
        with flask_app.app_context():
            _await_approval(owner, chat["turn"]["id"])
        project = create("/api/projects", {"name": "Mine"})
        prompt = create(f"/api/projects/{project['id']}/prompts", {"title": "Tone", "content": "Be brief."})
        draft = client.patch(
            f"/api/projects/{project['id']}/prompts/{prompt['id']}", json={"draft": "Be exact."}, headers=owner.headers
        )
        assert draft.status_code == 200, draft.text
        todo = create("/api/tasks", {"title": "Buy groceries"})
        uploaded = client.put("/api/files?name=a.txt", data=b"mine", headers=owner.headers)
        assert uploaded.json is not None
        key = create("/api/auth/keys", {"name": "mine", "scopes": ["read"]})
        with flask_app.app_context():
            self.other_id = str(insert_user(flask_app, db.engine).id)  # admins cannot change their own role or status
        self.ids = {
            "user_id": str(owner.id),
            "conversation_id": chat["conversation"]["id"],
            "turn_id": chat["turn"]["id"],
            "project_id": project["id"],
            "prompt_id": prompt["id"],
            "number": "1",  # of a version of the prompt
            "todo_id": todo["id"],
            "file_id": uploaded.json["id"],
            "key_id": key["id"],
            "session_id": str(owner.session_id),
            "receipt_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "name": "start.js",  # a file of the page at /docs
            "job_name": "search.sweep",
            "run_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "hold_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "acknowledgement_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "provider": "demo",
            "server": "weather",
            "queue": "interactive",
        }

        if archived:
            with flask_app.app_context():
                self.ids["run_id"] = str(
                    bundle_conversation(owner.id, create("/api/chat", {"message": "long ago"})["conversation"]["id"])
                )
                held = hold_conversation(
                    conversation_id=UUID(self.ids["conversation_id"]), reason="a hold of tests", by="tests"
                )
                self.ids["hold_id"] = str(held.holds[0])

    def path(self, rule: Rule) -> str:
        missing = rule.arguments - set(self.ids)
        assert not missing, f"{rule.rule}: `OwnedObjects` has no {missing}"
        path = path_of(rule)
        ids = {**self.ids, "user_id": self.other_id} if rule.rule.startswith("/api/admin/") else self.ids
        for name in rule.arguments:
            path = path.replace(f"{{{name}}}", ids[name])
        return path

    def seen(self, flask_app: Flask) -> list[Any]:
        """Return all objects as their owner reads them."""
        paths = (
            "/api/conversations/{conversation_id}",
            "/api/conversations/{conversation_id}/messages",
            "/api/turns/{turn_id}",
            "/api/projects/{project_id}",
            "/api/projects/{project_id}/prompts",
            "/api/projects/{project_id}/prompts/{prompt_id}/versions",
            "/api/projects/{project_id}/messages",
            "/api/files/{file_id}",
            "/api/files",
            "/api/projects/{project_id}/files",
            "/api/conversations",
            "/api/projects",
            "/api/tasks",
            "/api/tasks/{todo_id}",
            "/api/auth/me",
        )
        client = flask_app.test_client()
        answers = [client.get(path.format(**self.ids), headers=self.owner.headers) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json for answer in answers]


def _await_approval(owner: LoggedInUser, turn_id: str) -> None:
    """Change a turn into one that has ended with a call `call_1`, because no built-in tool needs approval."""
    call = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": "{}"}}
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE turns SET finish_reason = 'tool_approval' WHERE user_id = :u AND id = :t"),
            {"u": owner.id, "t": turn_id},
        )
        connection.execute(
            text("UPDATE messages SET tool_calls = :c WHERE user_id = :u AND turn_id = :t AND role = 'assistant'"),
            {"u": owner.id, "t": turn_id, "c": json.dumps([call])},
        )
