"""The user that sends generated requests: its objects, and the rules that JSON Schema cannot express."""

import json
import re
from datetime import date
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

import schemathesis
from flask import Flask
from sqlalchemy import Engine, text

from app.jobs import Message
from app.repositories import erasure
from app.services import password_resets, passwords, sessions
from app.services.common_passwords import is_common
from app.services.sessions import Client
from app.text import is_blank
from app.tools.mcp.definitions import ToolDefinition
from ops.catalogue.jobs import RECORD_STATS
from ops.doctor.acknowledgements import acknowledge
from ops.doctor.last_report import last_findings
from ops.indexes.plan_jobs import last_plan
from ops.mcp.servers import add_server, allow_tools
from ops.runs.actors import Actor
from ops.runs.pauses import pause_job
from ops.runs.run import RunRequest, run_job
from tests.api.responses import bearer
from tests.contracts.application import OPS_TOKEN
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.factories import PASSWORD, insert_user

# These end the caller's session or delete the object, so each of their cases has a new user.
ENDING = {
    "POST /api/auth/delete",
    "POST /api/auth/logout",
    "POST /api/auth/password",
    "POST /api/auth/password/reset",
    "POST /api/auth/refresh",
}
TOOL = "forecast"  # of an MCP server
QUICK_HASH = "$2b$04$Qm8Tti8.ETb9F6nvqNa7keFPxIVdsgb9JmOlsvRTjmGPzxff5tv0C"  # of PASSWORD, 4 rounds
NAMES = {"user_id", "job_name", "provider", "queue", "server"}  # path parameters; not all of them are UUIDs
PASSWORDS = {"password", "current_password", "new_password"}


class RequestingUser:
    """A user with own objects, so that most generated requests name existing objects."""

    def __init__(self, name: str, served: Flask, engine: Engine) -> None:
        self._served, self._engine = served, engine
        self._name = name
        self.is_ending = name in ENDING or name.startswith("DELETE ")
        self._needs_objects = name not in ENDING
        self.renew()

    def renew(self) -> None:
        """Create a new user, with objects if the operation can name any."""
        role = "admin" if " /api/admin" in self._name else "user"
        self.owner = insert_user(self._served, self._engine, password_hash=QUICK_HASH, role=role)
        archived = "/archive/" in self._name and "{conversation_id}" not in self._name
        self.ids = {}
        if self._needs_objects:
            objects = OwnedObjects(self._served, self.owner, archived=archived)
            self.ids = objects.ids
            if " /api/admin/" in self._name and not re.search(r"\{user_id\}/(keys|conversations)", self._name):
                self.ids["user_id"] = objects.other_id
        if "{receipt_id}" in self._name:
            with self._engine.begin() as connection:
                erasure.REQUEST.one(connection, {"user_id": self.owner.id, "receipt_id": self.ids["receipt_id"]})
        if "{acknowledgement_id}" in self._name:
            with self._served.app_context():
                accepted = acknowledge(
                    check="beat.alive",
                    findings=last_findings("beat.alive"),
                    of=None,
                    reason="a test of the API",
                    until=date(2030, 1, 1),
                    by="tests",
                )
            self.ids["acknowledgement_id"] = str(accepted.id)
        if "/mcp/{server}" in self._name:
            with self._served.app_context():
                self.ids["server"] = new_mcp_server(self._engine)
        if "/jobs/runs/" in self._name:
            with self._served.app_context():
                self.ids["run_id"] = str(last_plan().run_id)
        if self._name.endswith("/retry"):
            with self._served.app_context():
                self.ids["run_id"] = str(run_job(RECORD_STATS, fail, RunRequest()).id)
        if self._name.endswith("/runs/{run_id}/cancel"):
            waiting = Message(RECORD_STATS.name, {})
            self._served.extensions["jobs"].send(waiting)
            self.ids["run_id"] = str(waiting.id)
        if self._name == "DELETE /api/admin/jobs/{job_name}/pause":
            with self._served.app_context():
                by = Actor(kind="command", name="tests")
                pause_job(job=self.ids["job_name"], reason="a job of the tests", by=by)

    @property
    def headers(self) -> dict[str, str]:
        if self._name == "GET /metrics":
            return bearer(OPS_TOKEN)
        if self._name == "POST /api/auth/refresh":
            return bearer(self._refresh_token())
        return self.owner.headers

    def _refresh_token(self) -> str:
        with self._served.app_context(), self._engine.begin() as connection:
            return sessions.open_session(connection, self.owner.id, QUICK_HASH, Client()).refresh_token

    def _reset_token(self) -> str:
        with self._served.app_context(), self._engine.begin() as connection:
            return password_resets.issue(connection, self.owner.id, minutes=30).token

    def use_existing_ids(self, case: schemathesis.Case) -> None:
        """Replace generated ids by those of existing objects in most requests."""
        body = case.body if isinstance(case.body, dict) else None
        if is_one_in_five((case.path_parameters, case.query, body)):
            return
        for where in (case.path_parameters, case.body):
            if isinstance(where, dict):
                for name in sorted(where.keys() & self.ids.keys()):
                    if (where is case.path_parameters and name in NAMES) or is_id(where[name]):
                        where[name] = self.ids[name]

    def satisfy_rules(self, case: schemathesis.Case) -> None:
        """Adapt a valid request to rules that JSON Schema cannot express."""
        case.query.pop("cursor", None)  # only the server creates cursors
        if "q" in case.query:
            case.query["q"] = not_blank(case.query["q"])
        if self._name.endswith("/files") and case.method == "PUT":
            case.body, case.query["name"] = b"a text", "a.txt"  # the content decides whether it is accepted
        if self._name.endswith("/files") and case.method == "POST":
            case.body = {"file": "a text"}
        body = case.body
        if not isinstance(body, dict) or self._name.endswith("/files"):
            return
        if self._name == "POST /api/admin/archive/holds":
            body.update(conversation_id=self.ids["conversation_id"], user_id=None)  # exactly one of them is allowed
        if self._name == "POST /api/admin/checks/acknowledgements":
            body.update(check="beat.alive", object=None, until="2030-01-01")  # a finding of the last report
        if self._name.endswith("/tool_approvals"):
            body["approved"] = []  # the calls of the turn, of which any may be approved
        if self._name == "POST /api/admin/mcp":
            body.update(name=f"s{uuid4().hex}"[:20], url="https://mcp.invalid/mcp", headers={}, enabled=False)
        if "tools" in body:
            body["tools"] = [TOOL]  # the server of the path has listed it, and it is allowed
        if self._name.startswith("POST /api/admin/backups/"):
            body.pop("name", None)  # there is no backup yet
        if self._name == "POST /api/admin/jobs/{job_name}/runs":
            body.pop("dry_run", None)  # the job of the path has no dry run
        if self._name == "POST /api/admin/database/sessions/end":
            session = self._engine.connect()
            session.detach()
            body["pid"] = session.scalar(text("SELECT pg_backend_pid()"))
        if self._name == "POST /api/admin/indexes/apply":
            with self._served.app_context():
                body["run_id"] = str(last_plan().run_id)
        if isinstance(body.get("reason"), str):
            body["reason"] = f"A long reason: {body['reason'][:100]}"  # control characters do not count for its length
        if body.get("provider") is not None:
            body["provider"] = "demo"  # a configured provider
        if "provider_files" in body:
            body["provider_files"] = False  # FILES_PROVIDERS allows no provider
        for name in body.keys() & PASSWORDS:
            body[name] = allowed(body[name].encode()[: passwords.MAX_BYTES].decode(errors="ignore"))
        if self._name == "POST /api/auth/login" and not is_one_in_five(body):
            body.update(email=self.owner.email, password=PASSWORD)
        if "current_password" in body:
            body["current_password"] = PASSWORD
        if self._name in ("POST /api/auth/email", "POST /api/auth/delete"):
            body["password"] = PASSWORD
        if self._name == "POST /api/auth/password/reset":
            body["token"] = self._reset_token()
        for options in filter(None, (body.get("options"), body.get("settings"))):
            if "response_format" in options:
                options["response_format"].pop("json_schema", None)
                if options["response_format"]["type"] == "json_schema":
                    options["response_format"]["json_schema"] = {"name": "any", "schema": {"type": "object"}}
        for name in body.keys() - PASSWORDS:
            body[name] = not_blank(body[name])
        for part in (body, body.get("conversation", {}), *body.get("messages", ())):
            if "metadata" in part:
                part["metadata"] = {}  # within its limits of size and numbers
            if "title" in part:
                part["title"] = not_blank(part["title"])
        for place, message in enumerate(body.get("messages", ())):
            message.update(
                position=place + 1, content=not_blank(message.get("content")) or "hello", tool_calls=[], created_at=None
            )


def new_mcp_server(engine: Engine) -> str:
    """Register an MCP server that has listed a tool, which is allowed, as the only one, and return its name."""
    name, by = "weather", Actor(kind="command", name="tests")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mcp_servers"))
    add_server(name=name, url="https://mcp.invalid/mcp", headers={}, by=by, enabled=False, connect=0.1)
    listed = [ToolDefinition(name=TOOL, title="", description="", input_schema={"type": "object"}).stored()]
    with engine.begin() as connection:
        statement = text("UPDATE mcp_servers SET tools = :tools WHERE name = :name")
        connection.execute(statement, {"name": name, "tools": json.dumps(listed)})
    allow_tools(name=name, tools=[TOOL], by=by)
    return name


def fail() -> None:
    """Be a job that fails."""
    raise RuntimeError


def is_one_in_five(value: Any) -> bool:
    """Return True for one in five values, the same ones in every run."""
    return crc32(repr(value).encode(errors="replace")) % 5 == 0


def allowed(password: str) -> str:
    """Replace a common password: a schema cannot describe their list."""
    return PASSWORD if is_common(password) else password


def not_blank(value: Any) -> Any:
    """Replace a text without a visible character, which the description only approximates."""
    return "hello" if isinstance(value, str) and value and is_blank(value) else value


def is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False
