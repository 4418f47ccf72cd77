"""Every POST either takes an Idempotency-Key, or stands here with the reason why it does not."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.api.access import Access
from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served, blueprint_of, offline, path_of, with_ops_token
from tests.contracts.things import Things
from tests.factories import Account

SECRET = "its answer holds secrets, which are not kept"
ITSELF = "done twice it is done once"
# Neither may hold more than it must: what stands here is not made safe to repeat.
WITHOUT = {
    "POST /api/auth/register": SECRET,
    "POST /api/auth/login": SECRET,
    "POST /api/auth/refresh": SECRET,
    "POST /api/auth/keys": SECRET,
    "POST /api/auth/password": "the second one has the wrong password",
    "POST /api/auth/logout": ITSELF,
    "POST /api/conversations/{conversation_id}/archive": ITSELF,
    "POST /api/conversations/{conversation_id}/unarchive": ITSELF,
    "POST /api/turns/{turn_id}/cancel": ITSELF,
    "POST /api/admin/providers/{provider}/test": "it creates nothing; asked twice, it is tried twice",
    "POST /api/admin/users": "the second one has an address that is taken",
    "POST /api/admin/users/{account_id}/disable": ITSELF,
    "POST /api/admin/users/{account_id}/enable": ITSELF,
    "POST /api/admin/users/{account_id}/logout": ITSELF,
    "POST /api/admin/users/{account_id}/erase": "what is erased cannot be erased again",
    "POST /api/admin/users/{account_id}/export": "it creates nothing; each is written down",
    "POST /api/admin/archive/runs/{run_id}/undo": ITSELF,
    "POST /api/admin/archive/conversations/{conversation_id}/restore": ITSELF,
    "POST /api/admin/users/{account_id}/conversations/{conversation_id}/read": "it creates nothing",
    "POST /api/admin/archive/accounts/{account_id}/restore": ITSELF,
    "POST /api/admin/backups/verify": ITSELF,
    "POST /api/admin/backups/drill": ITSELF,
    "POST /api/admin/backups/prune": ITSELF,
    "POST /api/admin/archive/holds": "two holds of the same are lifted one by one, and hold no more than one",
    "POST /api/admin/indexes/apply": "what a plan has mended is not needed any more",
    "POST /api/admin/jobs/{job_name}/runs": "a job runs once at a time, and does not mind running again",
}
ON_ITS_TURN = {"POST /api/chat", "POST /api/{user_id}/chat"}


def posts(flask_app: Flask) -> dict[str, Rule]:
    return {
        f"POST {path_of(rule)}": rule
        for rule in flask_app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.endpoint != "static"
    }


def described() -> dict[str, dict[str, Any]]:
    """Each POST as the API's description has it."""
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    return {f"POST {path}": item["post"] for path, item in document["paths"].items() if "post" in item}


def takes_a_key(operation: dict[str, Any]) -> bool:
    return any(parameter.get("name") == "Idempotency-Key" for parameter in operation["parameters"])


DESCRIBED = described()
TAKING = sorted(name for name, operation in DESCRIBED.items() if takes_a_key(operation))


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    served = as_served(with_ops_token(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


def test_every_post_takes_a_key_or_has_a_reason_not_to() -> None:
    assert set(posts(offline())) - set(TAKING) == set(WITHOUT)


@pytest.mark.parametrize("name", TAKING)
def test_its_description_says_what_may_come(name: str) -> None:
    responses = DESCRIBED[name]["responses"]
    assert {"400", "409", "422"} <= set(responses)
    if name not in ON_ITS_TURN:
        [created] = [response for status, response in responses.items() if status.startswith("2")]
        assert {"Location", "Idempotency-Replayed"} <= set(created["headers"])


@pytest.mark.parametrize("name", sorted(set(TAKING) - ON_ITS_TURN))
def test_what_is_created_is_created_once(
    name: str, served: Flask, user: Account, engine: Engine, stored: Callable[[], dict[str, int]]
) -> None:
    rule = posts(served)[name]
    blueprint = blueprint_of(served, rule)
    if blueprint.access in (Access.OPERATOR, Access.ADMIN):
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET role = 'admin' WHERE id = :u"), {"u": user.id})
    path, body = Things(served, user).path(rule), body_of(name)

    def ask(changed: dict[str, Any], key: str = "k") -> TestResponse:
        headers = user.headers | {"Idempotency-Key": key}
        return served.test_client().post(path, json=changed, headers=headers)

    before = stored()
    first = ask(body)
    assert 200 <= first.status_code < 300, first.text
    after = stored()
    assert after != before
    again = ask(body)
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert (again.headers["Location"], again.headers["Idempotency-Replayed"]) == (first.headers["Location"], "true")
    assert stored() == after
    assert 422 in {ask(changed).status_code for changed in changes(body)}
    assert stored() == after
    assert ask(body, key="another").data != first.data


def body_of(name: str) -> dict[str, Any]:
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    [content] = DESCRIBED[name]["requestBody"]["content"].values()
    example = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["examples"][0]
    return dict(example)


def changes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`node` with one of its texts changed, each in turn; some of them will be no valid request."""
    for place in list(_texts(node, ())):
        changed = copy.deepcopy(node)
        *way, last = place
        inner: Any = changed
        for step in way:
            inner = inner[step]
        inner[last] += "!"
        yield changed


def _texts(node: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(inner, str):
            yield *place, key
        elif isinstance(inner, dict | list):
            yield from _texts(inner, (*place, key))


@pytest.fixture
def stored(engine: Engine, user: Account) -> Callable[[], dict[str, int]]:
    """A function that counts the rows of each of `user`'s tables."""
    owned = text(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id'"
        " AND table_schema = 'public' AND table_name <> 'api_keys'"
    )  # whose uses are noted

    def count() -> dict[str, int]:
        with engine.connect() as connection:
            return {
                table: connection.execute(
                    text(f"SELECT count(*) FROM {table} WHERE user_id = :u"), {"u": user.id}
                ).scalar_one()
                for table in connection.execute(owned).scalars().all()
            }

    return count
