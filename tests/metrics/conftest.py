"""Fixtures for metrics, which belong to the process: tests compare with the counts before."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.conftest import (  # noqa: F401  # fixtures that are used here too
    _plain_script,
    chat,
    chat_app,
    chat_client,
    make_chat_app,
    rows,
    upstream,
)
from tests.metrics.scrape import Since
from tests.metrics.sharing_processes import SharingProcess


@pytest.fixture
def since() -> Since:
    return Since()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SharingProcess]]:
    """Return a function that starts a process which shares its metrics in this test's own home."""
    started: list[SharingProcess] = []

    def start(**environment: str) -> SharingProcess:
        process = SharingProcess(tmp_path / "home", **environment)
        started.append(process)
        process.send("slot")  # wait until it runs
        return process

    yield start
    for process in started:
        if not process.ended:
            process.end()
