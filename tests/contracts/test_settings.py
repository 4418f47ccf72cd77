"""Every setting is described; every number has a unit and bounds."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from flask import Flask
from pydantic.fields import FieldInfo

from app.bounds import INTEGER_MAX, MAX_BYTES, MAX_TOKENS_PER_DAY
from app.config import GROUPS, Settings
from app.container import current_settings
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from ops.archive.plan import plan
from ops.maintenance import jobs as maintenance
from tests.factories import PASSWORD, LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

UNIT = re.compile(
    r"\b(?:seconds?|milliseconds?|minutes?|hours?|days?|weeks?|months?|bytes|characters|tokens|messages|requests|calls|logins"
    r"|registrations|exports|files|rounds|retries|failures|connections|turns|passwords|jobs|tasks|processes|proxies|port)\b",
    re.IGNORECASE,
)
FIELDS = {str(field.validation_alias): field for group in GROUPS.values() for field in group.model_fields.values()}
NUMBERS = {name: field for name, field in FIELDS.items() if field.annotation in (int, float)}


def bounds(field: FieldInfo) -> tuple[Any, Any]:
    """Return the lower and the upper bound of a field, open or closed; None where it has none."""
    lower = [rule.ge if isinstance(rule, Ge) else rule.gt for rule in field.metadata if isinstance(rule, Ge | Gt)]
    upper = [rule.le if isinstance(rule, Le) else rule.lt for rule in field.metadata if isinstance(rule, Le | Lt)]
    return next(iter(lower), None), next(iter(upper), None)


@pytest.mark.parametrize("name", FIELDS)
def test_setting_has_description_as_one_sentence(name: str) -> None:
    description = FIELDS[name].description or ""
    assert re.fullmatch(r"[A-Za-z*].{10,}\.", description), f"{name}: describe it in app/config/"


@pytest.mark.parametrize("name", NUMBERS)
def test_number_has_unit_and_bounds(name: str) -> None:
    field = NUMBERS[name]
    lower, upper = bounds(field)
    assert lower is not None, f"{name}: give it a lower bound (ge or gt)"
    assert lower >= 0
    assert upper is not None, f"{name}: give it an upper bound (le), from app/bounds.py if it reaches the database"
    largest = MAX_BYTES if name.endswith("_BYTES") else INTEGER_MAX  # bytes are stored in bigint columns
    assert upper <= largest, f"{name}: an integer column cannot hold {upper}"
    assert UNIT.search(field.description or ""), f"{name}: name the unit in its description"


def test_no_number_escapes_the_checks() -> None:
    """A number in a union is not in NUMBERS."""
    assert {name for name, field in FIELDS.items() if "int" in str(field.annotation) and name not in NUMBERS} == set()


# At their lower bounds, these make requests fail as they should.
REFUSING_AT_LOWER_BOUND = {name for name in NUMBERS if "TIMEOUT" in name} | {"CHAT_MAX_RUNNING"}


def settings_at(settings: Settings, bound: int) -> Settings:
    """Return `settings` with every number at its lower (0) or upper (1) bound."""
    groups = {}
    for group_name, group in GROUPS.items():
        update = {}
        for name, field in group.model_fields.items():
            variable = str(field.validation_alias)
            if variable not in NUMBERS or (bound == 0 and variable in REFUSING_AT_LOWER_BOUND):
                continue
            value = bounds(field)[bound]
            assert value is not None
            is_open = any(isinstance(rule, Gt | Lt) for rule in field.metadata[bound : bound + 1])
            update[name] = field.annotation(value) if not is_open else 0.001  # type: ignore[misc]  # int or float
        groups[group_name] = getattr(settings, group_name).model_copy(update=update)
    return replace(settings, **groups)


@pytest.mark.parametrize("bound", [0, 1], ids=["lower", "upper"])
def test_server_works_with_every_number_at_its_bound(
    bound: int, settings: Settings, flask_app: Flask, make_user: Callable[..., LoggedInUser]
) -> None:
    """No setting is wider than the columns, intervals and timers that it reaches."""
    changed = settings_at(settings, bound)
    with Upstream() as upstream:
        upstream.script = scripts.words(3)
        provider = changed.provider.model_copy(update={"name": "compatible", "openai_base_url": upstream.base_url})
        _use_everything(create_app(replace(changed, provider=provider)), make_user)


def _use_everything(application: Flask, make_user: Callable[..., LoggedInUser]) -> None:
    client = application.test_client()
    for quota in (None, MAX_TOKENS_PER_DAY):
        user = make_user(tokens_per_day=quota, **({"tokens_used": 0} if quota else {}))
        for _ in range(2):
            response = client.post("/api/chat", json={"message": "x"}, headers=user.headers)
            assert response.status_code == 200, response.text
        conversation_id = (response.json or {})["conversation"]["id"]
        archived = client.post(f"/api/conversations/{conversation_id}/archive", headers=user.headers)
        assert archived.status_code == 200, archived.text
    email = f"{new_id().hex}@example.org"
    body = {"email": email, "password": PASSWORD, "name": "Ada"}
    assert client.post("/api/auth/register", json=body).status_code == 201
    _read_first_word_of_demo(application, make_user())
    with application.app_context():
        for function in (
            maintenance.close_stale_turns,
            maintenance.purge_ended_sessions,
            maintenance.purge_ended_api_keys,
            maintenance.purge_old_job_runs,
            maintenance.purge_old_turn_events,
        ):
            function()
        if current_settings().archive.after_days:
            plan(seconds=1)
        db.engine.dispose()


def _read_first_word_of_demo(application: Flask, user: LoggedInUser) -> None:
    """Stream an answer of the demo provider, and cancel it after its first word: its pause can be a second per word."""
    client = application.test_client()
    body = {"message": "x", "provider": "demo", "stream": True}
    response = client.post("/api/chat", json=body, headers=user.headers)
    assert response.status_code == 200
    pieces = iter(response.response)
    started = next(piece for piece in pieces if b"turn.started" in piece)
    turn_id = re.search(rb'"turn":{"id":"([0-9a-f-]{36})"', started)
    assert turn_id is not None, started
    assert any(b"message.delta" in piece for piece in (started, *pieces))
    cancelled = client.post(f"/api/turns/{turn_id[1].decode()}/cancel", headers=user.headers)
    assert cancelled.status_code == 202
