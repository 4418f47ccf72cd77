"""Metrics belong to the process, so tests compare with what was counted before."""

import threading
from collections.abc import Callable

import pytest

from tests.api.conftest import (  # noqa: F401  # their fixtures serve here too
    _plain_script,
    chat,
    chat_app,
    chat_client,
    make_chat_app,
    rows,
    upstream,
)
from tests.metrics.scrape import Since


@pytest.fixture
def since() -> Since:
    return Since()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Poll a bounded number of times, for what another thread is about to do."""

    def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
        pause = threading.Event()
        for _ in range(int(seconds / 0.02)):
            if condition():
                return
            pause.wait(0.02)
        pytest.fail("the awaited state never came")

    return wait
