"""External gauges: a group is exposed as it was recorded, until it is recorded again."""

import time
from datetime import timedelta

import pytest

from app.metrics.external_gauges import record_external_gauges
from app.metrics.jobs import (
    record_beat_tick,
    record_job,
    record_job_history,
    record_queue_lengths,
    record_queue_wait,
)
from app.metrics.registry import METRICS
from tests.metrics.scrape import Since, here

TTL = timedelta(minutes=1)
LENGTH = METRICS["parley_queue_length"]


def test_recording_a_group_replaces_its_values() -> None:
    record_job_history({"a.b": 10.0, "c.d": 20.0}, {"a.b": 11.0})
    assert here().value("job_last_success_timestamp_seconds", job_name="a.b") == 10
    assert here().value("job_last_attempt_timestamp_seconds", job_name="a.b") == 11
    record_job_history({"c.d": 30.0}, {})
    seen = here()
    assert seen.labels("job_last_success_timestamp_seconds", "job_name") == {"c.d"}
    assert seen.labels("job_last_attempt_timestamp_seconds", "job_name") == set()
    assert seen.value("job_last_success_timestamp_seconds", job_name="c.d") == 30


def test_recording_a_group_keeps_other_groups() -> None:
    record_job_history({"a.b": 10.0}, {})
    record_queue_lengths({"interactive": 3, "maintenance": 0})
    seen = here()
    assert seen.value("queue_length", queue="interactive") == 3
    assert seen.labels("queue_length", "queue") == {"interactive", "maintenance"}
    assert seen.value("job_last_success_timestamp_seconds", job_name="a.b") == 10


def test_group_has_timestamp() -> None:
    before = time.time()
    record_queue_lengths({})
    assert before <= here().value("external_gauge_timestamp_seconds", group="queues") <= time.time()


def test_expired_group_shows_only_its_timestamp(monkeypatch: pytest.MonkeyPatch) -> None:
    record_queue_lengths({"interactive": 3})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 700)
    seen = here()
    assert seen.labels("queue_length", "queue") == set()
    assert seen.value("external_gauge_timestamp_seconds", group="queues") <= now


def test_wrong_metric_labels_or_group_raise_value_error() -> None:
    with pytest.raises(ValueError, match="parley_turns_running is not an external gauge"):
        record_external_gauges("here", {METRICS["parley_turns_running"]: {(): 1}}, ttl=TTL)
    with pytest.raises(ValueError, match="parley_queue_length has the labels queue"):
        record_external_gauges("here", {LENGTH: {("a", "b"): 1}}, ttl=TTL)
    with pytest.raises(ValueError, match="is not a group name"):
        record_external_gauges("../there", {LENGTH: {("a",): 1}}, ttl=TTL)
    assert "here" not in here().labels("external_gauge_timestamp_seconds", "group")


def test_job_runs_and_queue_waits_are_recorded(since: Since) -> None:
    record_job("turns.close_stale", "succeeded", 0.2)
    record_job("turns.close_stale", "failed", 7)
    record_queue_wait(-3)  # two hosts' clocks
    record_queue_wait(2)
    assert since.counted("job_runtime_seconds_count", job_name="turns.close_stale", outcome="succeeded") == 1
    assert since.counted("job_runtime_seconds_sum", outcome="failed") == 7
    assert since.counted("queue_wait_seconds_sum") == 2
    assert since.counted("queue_wait_seconds_count") == 2


def test_beat_tick_is_exposed() -> None:
    record_beat_tick(1_800_000_000)
    assert here().value("beat_last_tick_timestamp_seconds") == 1_800_000_000
