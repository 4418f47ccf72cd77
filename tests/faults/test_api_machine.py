"""Whatever two people do with the API, it shows what they did. `make fuzz` lets them do more."""

import os
from collections.abc import Callable

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.api_machine import ApiMachine, Stage

SEED = int(os.environ.get("FUZZ_SEED") or 20250101)
ASKED = os.environ.get("FUZZ_EXAMPLES")
EXAMPLES = int(ASKED or 10)
STEPS = 30  # of an example, at most


@pytest.mark.slow
@pytest.mark.timeout(60 * EXAMPLES)  # a busy machine is no fault
def test_the_api_shows_what_people_did(
    make_chat_app: Callable[..., Flask], upstream: Upstream, make_user: Callable[[], Account]
) -> None:
    upstream.script = scripts.echo()
    stage = Stage([make_chat_app(), make_chat_app()], upstream, make_user)
    bounds = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[
            Phase.generate,
            *([Phase.shrink] if ASKED else []),
        ],  # it takes minutes
        suppress_health_check=list(HealthCheck),
    )
    machine = type("Machine", (ApiMachine,), {"__init__": lambda self: ApiMachine.__init__(self, stage)})
    seed(SEED)(get_state_machine_test(machine, settings=bounds))()
