"""What somebody has: an object of each kind that a path can name."""

from typing import Any
from uuid import UUID

from flask import Flask
from werkzeug.routing import Rule

from app.extensions import db
from ops.archive.holds import hold_conversation
from tests.contracts.application import path_of
from tests.factories import Account, make_account
from tests.faults.bundling import put_away


class Things:
    """Made through the API, as their owner would. With `archived` also what operators have of an archive."""

    def __init__(self, flask_app: Flask, owner: Account, *, archived: bool = False) -> None:
        self.owner = owner
        client = flask_app.test_client()

        def made(path: str, body: dict[str, Any]) -> dict[str, Any]:
            response = client.post(path, json=body, headers=owner.headers)
            assert response.status_code in (200, 201), response.text
            assert response.json is not None
            return dict(response.json)

        chat = made("/api/chat", {"message": "hello"})
        project = made("/api/projects", {"name": "Mine"})
        prompt = made(f"/api/projects/{project['id']}/prompts", {"title": "Tone", "content": "Be brief."})
        key = made("/api/auth/keys", {"name": "mine", "scopes": ["read"]})
        with flask_app.app_context():
            other = make_account(flask_app, db.engine)  # an admin does nothing of the kind to oneself
        self.ids = {
            "user_id": str(owner.id),
            "conversation_id": chat["conversation"]["id"],
            "turn_id": chat["turn"]["id"],
            "project_id": project["id"],
            "prompt_id": prompt["id"],
            "key_id": key["id"],
            "name": "start.js",  # of the page at /docs
            "job_name": "search.sweep",
            "account_id": str(other.id),
            "run_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "hold_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "provider": "demo",
        }

        if archived:
            with flask_app.app_context():
                self.ids["run_id"] = str(
                    put_away(owner.id, made("/api/chat", {"message": "long ago"})["conversation"]["id"])
                )
                held = hold_conversation(conversation_id=UUID(self.ids["conversation_id"]), reason="tests", by="tests")
                self.ids["hold_id"] = str(held.holds[0])

    def path(self, rule: Rule) -> str:
        missing = rule.arguments - set(self.ids)
        assert not missing, f"{rule.rule}: `Things` has no {missing}"
        path = path_of(rule)
        for name in rule.arguments:
            path = path.replace(f"{{{name}}}", self.ids[name])
        return path

    def seen(self, flask_app: Flask) -> list[Any]:
        """All of it as its owner sees it."""
        paths = (
            "/api/conversations/{conversation_id}",
            "/api/conversations/{conversation_id}/messages",
            "/api/turns/{turn_id}",
            "/api/projects/{project_id}",
            "/api/projects/{project_id}/prompts",
            "/api/conversations",
            "/api/projects",
            "/api/auth/me",
        )
        client = flask_app.test_client()
        answers = [client.get(path.format(**self.ids), headers=self.owner.headers) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json for answer in answers]
