"""Requests that schemathesis generates from the API's description, valid and invalid; responses must match it.

Every run sends the same requests: seed and number of examples are fixed. `make fuzz` sends more, with a new seed,
which it prints so that a failure can be reproduced.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

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
from app.repositories.paused_jobs import PAUSED_JOBS_KEY
from app.services import passwords
from app.services.provider_choice import KEY
from ops.catalogue.declarations import load
from ops.catalogue.jobs import PLAN_INDEXES, RECORD_STATS, RUN_DOCTOR
from ops.runs.run import RunRequest, run_job
from tests.contracts.application import as_served, offline, with_ops_token
from tests.contracts.requesting_user import RequestingUser
from tests.jobs.conftest import broker, redis_server

__all__ = ["broker", "redis_server"]  # fixtures

SEED = int(os.environ.get("FUZZ_SEED") or 20250101)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 5)  # per operation and mode, valid and invalid
REFUSALS = ["400", "401", "403", "404", "405", "413"]
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
