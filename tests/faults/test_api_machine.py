"""Random sequences of requests by two users, compared with a model. `make fuzz` runs longer ones."""

import os
from collections.abc import Callable

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import get_state_machine_test

from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.api_machine import ApiMachine, Environment

SEED = int(os.environ.get("FUZZ_SEED") or 20250101)
REQUESTED_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
EXAMPLES = int(REQUESTED_EXAMPLES or 10)
MAX_STEPS = 30  # of an example


@pytest.mark.timeout(60 * EXAMPLES)  # long enough for a loaded machine
def test_random_requests_match_the_model(
    make_chat_app: Callable[..., Flask], upstream: Upstream, make_user: Callable[[], LoggedInUser]
) -> None:
    upstream.script = scripts.echo()
    environment = Environment([make_chat_app(), make_chat_app()], upstream, make_user)
    hypothesis_settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=MAX_STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if REQUESTED_EXAMPLES else [])],  # shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    machine = type("Machine", (ApiMachine,), {"__init__": lambda self: ApiMachine.__init__(self, environment)})
    seed(SEED)(get_state_machine_test(machine, settings=hypothesis_settings))()
