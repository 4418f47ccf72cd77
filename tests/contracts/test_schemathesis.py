"""Requests that schemathesis generates from the API's description, valid and invalid; responses must match it.

Every run sends the same requests: seed and number of examples are fixed. `make fuzz` sends more, with a new seed,
which it prints so that a failure can be reproduced.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any, cast
from uuid import UUID, uuid4
from zlib import crc32

import pytest
import schemathesis
from flask import Flask
from pydantic import SecretStr
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from sqlalchemy import Engine, text

from app.api.schemas.base import VISIBLE
from app.bounds import MAX_HISTORY_MESSAGES
from app.config import Mail, Settings
from app.container import services
from app.extensions import db
from app.jobs import Message
from app.repositories import erasure
from app.repositories.paused_jobs import PAUSED_JOBS_KEY
from app.services import password_resets, passwords, sessions
from app.services.common_passwords import is_common
from app.services.provider_choice import KEY
from app.services.sessions import Client
from app.text import is_blank
from app.tools.mcp.definitions import ToolDefinition
from ops.catalogue.declarations import load
from ops.catalogue.jobs import PLAN_INDEXES, RECORD_STATS, RUN_DOCTOR
from ops.doctor.acknowledgements import acknowledge
from ops.doctor.last_report import last_findings
from ops.indexes.plan_jobs import last_plan
from ops.mcp.servers import add_server, allow_tools
from ops.runs.actors import Actor
from ops.runs.pauses import pause_job
from ops.runs.run import RunRequest, run_job
from tests.api.responses import bearer
from tests.contracts.application import OPS_TOKEN, as_served, offline, with_ops_token
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.factories import PASSWORD, insert_user
from tests.jobs.conftest import broker, redis_server

__all__ = ["broker", "redis_server"]  # fixtures

SEED = int(os.environ.get("FUZZ_SEED") or 20250101)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 5)  # per operation and mode, valid and invalid
REFUSALS = ["400", "401", "403", "404", "405", "413"]
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
TWO_DAYS_AGO = (
    "UPDATE job_runs SET started_at = started_at - interval '2 days', finished_at = finished_at - interval '2 days'"
    " WHERE job = :job"
)
# The only admin request that changes nothing but is not a GET, because it costs money.
READ_ONLY = {"POST /api/admin/providers/{provider}/test"}
MAY_BE_UNAUTHENTICATED = {"POST /api/auth/login", "POST /api/auth/refresh"}

pytestmark = pytest.mark.timeout(60 * EXAMPLES)  # allows for a busy machine and for more examples

config = schemathesis.Config.from_dict(
    {
        "seed": SEED,
        "suppress-health-check": ["all"],
        "generation": {
            "max-examples": EXAMPLES,
            "database": "none",
            "allow-x00": False,  # the introduction describes that they are refused
            "with-security-parameters": False,
        },
        "checks": {
            "negative_data_rejection": {"expected-statuses": REFUSALS},
            "missing_required_header": {"expected-statuses": REFUSALS},
            "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "422"]},
        },
    }
)


def described() -> dict[str, Any]:
    """Return the description without the pattern for non-blank text.

    With the pattern, schemathesis does not generate texts of maximum length, and takes seconds for long ones.
    """
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    for item in document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict) and "requestBody" in operation:
                # An example of a form has a text in place of the file, which counts as an invalid value.
                operation["requestBody"]["content"].get("multipart/form-data", {}).pop("example", None)
    return cast("dict[str, Any]", without(document, ("pattern", VISIBLE)))


def without(node: Any, item: tuple[str, Any]) -> Any:
    """Remove all items equal to `item` from a JSON value."""
    if isinstance(node, list):
        return [without(inner, item) for inner in node]
    if isinstance(node, dict):
        return {key: without(inner, item) for key, inner in node.items() if (key, inner) != item}
    return node


schema = schemathesis.openapi.from_dict(described(), config=config)
# The operations of one path run in one worker, because undeclared methods are tested once per path.
OPERATIONS = [
    pytest.param(f"{method.upper()} {path}", marks=pytest.mark.xdist_group(path))
    for path, item in schema.raw_schema["paths"].items()
    for method in item
    if method != "parameters"
]


@pytest.fixture(scope="module")
def served(
    settings: Settings, flask_app: Flask, engine: Engine, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    """Yield the application as wsgi.py builds it, on the migrated database; enqueued jobs are not run."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    backups = settings.backups.model_copy(update={"url": tmp_path_factory.mktemp("backups").as_uri()})
    mail = Mail(SMTP_URL=SecretStr("smtp+plain://127.0.0.1"), MAIL_FROM="parley@example.org")  # type: ignore[call-arg]
    issuers = {"mcp_authorization_servers": ("https://login.example.org",), "mcp_url": "https://example.org/mcp"}
    auth = settings.auth.model_copy(update=issuers)
    chat = settings.chat.model_copy(update={"history_messages": MAX_HISTORY_MESSAGES})  # no bound of its own
    served = as_served(with_ops_token(replace(settings, jobs=jobs, backups=backups, mail=mail, auth=auth, chat=chat)))
    # bcrypt with fewer rounds is 100 times faster.
    hasher = passwords.PasswordHasher(rounds=4)
    served.extensions["parley"] = replace(served.extensions["parley"], passwords=hasher)
    schema.app = served
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION pg_stat_statements"))
    with served.app_context():  # results of the doctor and a plan, and counters recorded two days ago
        for job in (RUN_DOCTOR, PLAN_INDEXES, RECORD_STATS):
            assert run_job(job, load(job.function), RunRequest()).error is None
    with engine.begin() as connection:
        connection.execute(text(TWO_DAYS_AGO), {"job": RECORD_STATS.name})
    yield served
    with served.app_context():
        services().runtime.remove(KEY)  # otherwise other tests use the provider chosen last
        services().runtime.remove(PAUSED_JOBS_KEY)
    with engine.begin() as connection:  # other tests register their own
        connection.execute(text("DELETE FROM mcp_servers"))
    with served.app_context():
        db.engine.dispose()
    with engine.begin() as connection:  # other tests compare the schema with the models
        connection.execute(text("DROP EXTENSION pg_stat_statements"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_responses_match_description(name: str, served: Flask, engine: Engine) -> None:
    caller = RequestingUser(name, served, engine)
    statuses, audited_before = list[int](), count_audited(engine)

    def ask(case: schemathesis.Case) -> None:
        caller.use_existing_ids(case)
        accepted = case.meta is None or case.meta.generation.mode.is_positive
        if accepted:
            caller.satisfy_rules(case)
        response = case.call_and_validate(headers={**caller.headers, "Accept-Encoding": "identity"})
        if case.method == name.split(" ")[0]:
            statuses.append(response.status_code)
        if caller.is_ending:
            caller.renew()
        assert not accepted or response.status_code != 401 or name in MAY_BE_UNAUTHENTICATED

    run(name, ask)
    done = sum(200 <= status < 300 for status in statuses)
    assert done, "no request has succeeded"
    changes = " /api/admin/" in name and not name.startswith("GET ") and name not in READ_ONLY
    assert not changes or count_audited(engine) - audited_before >= done, "an action is missing in the audit"


def count_audited(engine: Engine) -> int:
    """Return the number of completed admin actions in the audit."""
    with engine.connect() as connection:
        query = "SELECT count(*) FROM audit_events WHERE actor_kind = 'user' AND result <> 'begun'"
        return int(connection.execute(text(query)).scalar_one())


def run(name: str, ask: Callable[[schemathesis.Case], None]) -> None:
    """Send all requests that schemathesis generates for one operation.

    Its pytest plugin would generate them for all operations at collection, in each worker.
    """
    method, path = name.split(" ")
    operation = schema[path][method]
    create_test(
        operation=operation,
        test_func=ask,
        config=HypothesisTestConfig(
            project=schema.config,
            modes=list(HypothesisTestMode),
            settings=schema.config.get_hypothesis_settings(operation=operation, phase="fuzzing"),
            seed=SEED,
        ),
    )()


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
