"""Metrics of processes: memory, CPU and files, recorded while they serve."""

import os
import time
from collections.abc import Iterator

import pytest

from app.metrics import http, process
from tests.metrics.scrape import here


@pytest.fixture
def served() -> Iterator[None]:
    """Record this process as a web server."""
    process.record_process_begun("web")
    yield
    process._sampler = None


@pytest.mark.usefixtures("served")
def test_values_of_this_process_are_exposed() -> None:
    seen = here()
    assert seen.value("build_info") == 1
    assert seen.value("process_start_time_seconds", kind="web") < time.time()
    assert seen.value("process_resident_memory_bytes", kind="web") > 10_000_000
    assert 3 < seen.value("process_open_fds", kind="web") < seen.value("process_max_fds", kind="web")


@pytest.mark.usefixtures("served")
def test_requests_record_cpu_time_at_most_once_per_interval() -> None:
    before = here().value("process_cpu_seconds_total", kind="web")
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    _request()
    assert here().value("process_cpu_seconds_total", kind="web") == before
    process.record_process(clock=lambda: time.monotonic() + process.INTERVAL)
    assert here().value("process_cpu_seconds_total", kind="web") >= before + 0.1


@pytest.mark.usefixtures("served")
def test_open_files_are_counted() -> None:
    before = here().value("process_open_fds", kind="web")
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    process.record_process(clock=lambda: time.monotonic() + process.INTERVAL)
    assert here().value("process_open_fds", kind="web") >= before + 5
    for descriptor in descriptors:
        os.close(descriptor)


def test_process_that_does_not_serve_records_nothing() -> None:
    process._sampler = None
    before = here().value("process_cpu_seconds_total", kind="worker")
    process.record_process(clock=lambda: time.monotonic() + 1000)
    assert here().value("process_cpu_seconds_total", kind="worker") == before


def _request() -> None:
    http.record_request_begun()
    http.record_request("GET", "/health", 200, 0.1)
