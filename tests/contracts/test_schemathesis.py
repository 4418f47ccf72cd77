"""The server is asked what its description says it may be asked, and what it says it refuses; the answers must fit.

Every run asks the same things: the seed and the number of examples are fixed. `make fuzz` asks more, and other things
each time; what it found is asked again with the seed that it prints.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID
from zlib import crc32

import pytest
import schemathesis
from flask import Flask
from pydantic import SecretStr
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.services import passwords, sessions
from app.services.container import services
from app.services.provider_choice import KEY
from app.services.sessions import Client
from ops.catalogue import EXAMINE, PLAN_INDEXES, RECORD_FIGURES
from ops.declarations import load
from ops.indexes.asked import last_plan
from ops.runs import Asked, run_job
from tests.api.keys import bearer
from tests.contracts.application import OPS_TOKEN, as_served, offline, with_ops_token
from tests.contracts.things import Things
from tests.factories import PASSWORD, make_account
from tests.jobs.conftest import broker, redis_server

__all__ = ["broker", "redis_server"]  # fixtures

SEED = int(os.environ.get("FUZZ_SEED") or 20250101)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 5)  # of each operation, twice: as described, and not
REFUSALS = ["400", "401", "403", "404", "405", "413"]
# After these their caller, or what they were about, is no more: the next case has somebody new.
FINAL = {"POST /api/auth/logout", "POST /api/auth/password", "POST /api/auth/refresh"}
QUICK_HASH = "$2b$04$Qm8Tti8.ETb9F6nvqNa7keFPxIVdsgb9JmOlsvRTjmGPzxff5tv0C"  # of PASSWORD, 4 rounds
NAMES = {"user_id", "job_name", "provider"}  # in a path; not all of them look like ids
PASSWORDS = {"password", "current_password", "new_password"}
TWO_DAYS_AGO = (
    "UPDATE job_runs SET started_at = started_at - interval '2 days', finished_at = finished_at - interval '2 days'"
    " WHERE job = :job"
)
# The one request of operators that changes nothing, and is no GET because it costs something.
CHANGES_NOTHING = {"POST /api/admin/providers/{provider}/test"}
MAY_MISTAKE_THE_CALLER = {"POST /api/auth/login", "POST /api/auth/refresh"}

pytestmark = pytest.mark.timeout(60 * EXAMPLES)  # a busy machine is no fault; more examples take longer

config = schemathesis.Config.from_dict(
    {
        "seed": SEED,
        "suppress-health-check": ["all"],
        "generation": {
            "max-examples": EXAMPLES,
            "database": "none",
            "allow-x00": False,  # the introduction says that they are refused everywhere
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
    """The description, without its saying that a text may not be blank: beside that, schemathesis makes none of the
    greatest length, and takes seconds for a long one."""
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    return cast("dict[str, Any]", without(document, ("pattern", "\\S")))


def without(node: Any, item: tuple[str, Any]) -> Any:
    """`node` without the items that are like this one."""
    if isinstance(node, list):
        return [without(inner, item) for inner in node]
    if isinstance(node, dict):
        return {key: without(inner, item) for key, inner in node.items() if (key, inner) != item}
    return node


schema = schemathesis.openapi.from_dict(described(), config=config)
# Of one path in one process, because the methods that it lacks are tried once for all of them.
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
    """As wsgi.py builds it, on the database that `flask_app` has migrated; what is asked of workers waits for none."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    backups = settings.backups.model_copy(update={"url": tmp_path_factory.mktemp("backups").as_uri()})
    served = as_served(with_ops_token(replace(settings, jobs=jobs, backups=backups)))
    # The same bcrypt, a hundred times as fast.
    hasher = passwords.PasswordHasher(rounds=4)
    served.extensions["parley"] = replace(served.extensions["parley"], passwords=hasher)
    schema.app = served
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION pg_stat_statements"))
    with served.app_context():  # the doctor is asked what he found, what he would do, and what was two days ago
        for job in (EXAMINE, PLAN_INDEXES, RECORD_FIGURES):
            assert run_job(job, load(job.where), Asked()).error is None
    with engine.begin() as connection:
        connection.execute(text(TWO_DAYS_AGO), {"job": RECORD_FIGURES.name})
    yield served
    with served.app_context():
        services().runtime.remove(KEY)  # the provider that was chosen last would answer other tests
        db.engine.dispose()
    with engine.begin() as connection:  # other tests compare what is there with what the models say
        connection.execute(text("DROP EXTENSION pg_stat_statements"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_fit_the_description(name: str, served: Flask, engine: Engine) -> None:
    caller = Caller(name, served, engine)
    statuses, audited_before = list[int](), count_audited(engine)

    def ask(case: schemathesis.Case) -> None:
        caller.name_things(case)
        accepted = case.meta is None or case.meta.generation.mode.is_positive
        if accepted:
            caller.put_right(case)
        response = case.call_and_validate(headers={**caller.headers, "Accept-Encoding": "identity"})
        if case.method == name.split(" ")[0]:
            statuses.append(response.status_code)
        if caller.once:
            caller.renew()
        assert not accepted or response.status_code != 401 or name in MAY_MISTAKE_THE_CALLER

    run(name, ask)
    done = sum(200 <= status < 300 for status in statuses)
    assert done, "nothing that was asked has been done"
    changes = " /api/admin/" in name and not name.startswith("GET ") and name not in CHANGES_NOTHING
    assert not changes or count_audited(engine) - audited_before >= done, "not all that was done is in the audit"


def count_audited(engine: Engine) -> int:
    """What operators did over HTTP, and what became of it is known, too."""
    with engine.connect() as connection:
        query = "SELECT count(*) FROM audit_events WHERE actor_kind = 'user' AND result <> 'begun'"
        return int(connection.execute(text(query)).scalar_one())


def run(name: str, ask: Callable[[schemathesis.Case], None]) -> None:
    """Ask everything that schemathesis makes of one operation.

    That is what its plugin does for all of them while pytest collects, in each of pytest's processes.
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


class Caller:
    """Who asks, with things of their own, so that most requests find what they name."""

    def __init__(self, name: str, served: Flask, engine: Engine) -> None:
        self._served, self._engine = served, engine
        self._name = name
        self.once = name in FINAL or name.startswith("DELETE ")
        self._needs_things = name not in FINAL
        self.renew()

    def renew(self) -> None:
        """Somebody new, with things of their own where any can be named."""
        role = "admin" if " /api/admin" in self._name else "user"
        self.owner = make_account(self._served, self._engine, password_hash=QUICK_HASH, role=role)
        archived = "/archive/" in self._name and "{conversation_id}" not in self._name
        self.ids = Things(self._served, self.owner, archived=archived).ids if self._needs_things else {}
        if re.search(r"\{account_id\}/(keys|conversations)", self._name):
            self.ids["account_id"] = str(self.owner.id)  # who has them
        if "/jobs/runs/" in self._name:
            with self._served.app_context():
                self.ids["run_id"] = str(last_plan().run_id)

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

    def name_things(self, case: schemathesis.Case) -> None:
        """In most requests ids become those of things that are there; in the others they stay nobody's."""
        body = case.body if isinstance(case.body, dict) else None
        if some((case.path_parameters, case.query, body)):
            return
        for where in (case.path_parameters, case.body):
            if isinstance(where, dict):
                for name in sorted(where.keys() & self.ids.keys()):
                    if (where is case.path_parameters and name in NAMES) or is_id(where[name]):
                        where[name] = self.ids[name]

    def put_right(self, case: schemathesis.Case) -> None:
        """What is to be accepted keeps to the rules that JSON Schema has no word for."""
        case.query.pop("cursor", None)  # one that this server has made
        if "q" in case.query:
            case.query["q"] = not_blank(case.query["q"])
        body = case.body
        if not isinstance(body, dict):
            return
        if self._name == "POST /api/admin/archive/holds":
            body.update(conversation_id=self.ids["conversation_id"], account_id=None)  # one of the two
        if self._name.startswith("POST /api/admin/backups/"):
            body.pop("name", None)  # there is none yet
        if self._name == "POST /api/admin/indexes/apply":
            with self._served.app_context():
                body["run_id"] = str(last_plan().run_id)
        if body.get("provider") is not None:
            body["provider"] = "demo"  # one that this server has
        for name in body.keys() & PASSWORDS:
            body[name] = body[name].encode()[: passwords.MAX_BYTES].decode(errors="ignore")
        if self._name == "POST /api/auth/login" and not some(body):
            body.update(email=self.owner.email, password=PASSWORD)
        if "current_password" in body:
            body["current_password"] = PASSWORD
        for name in body.keys() - PASSWORDS:
            body[name] = not_blank(body[name])
        for each in (body, body.get("conversation", {}), *body.get("messages", ())):
            if "metadata" in each:
                each["metadata"] = {}  # no number is extreme, and it is small
            if "title" in each:
                each["title"] = not_blank(each["title"])
        for place, message in enumerate(body.get("messages", ())):
            message.update(
                position=place + 1, content=message.get("content") or "hello", tool_calls=[], created_at=None
            )


def some(value: Any) -> bool:
    """True for one value in five, and for the same ones in every run."""
    return crc32(repr(value).encode(errors="replace")) % 5 == 0


def not_blank(value: Any) -> Any:
    return "hello" if isinstance(value, str) and value.isspace() else value


def is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False
