"""What a job has read is shown as it was read, as a whole, until it is read again."""

import time

import pytest

from app.metrics.jobs import (
    record_beat_tick,
    record_job,
    record_job_history,
    record_queue_lengths,
    record_queue_wait,
)
from app.metrics.readings import record_readings
from app.metrics.registry import METRICS
from tests.metrics.scrape import Since, here

LENGTH = METRICS["parley_queue_length"]


def test_readings_replace_those_before() -> None:
    record_job_history({"a.b": 10.0, "c.d": 20.0}, {"a.b": 11.0})
    assert here().value("job_last_success_timestamp_seconds", job="a.b") == 10
    assert here().value("job_last_attempt_timestamp_seconds", job="a.b") == 11
    record_job_history({"c.d": 30.0}, {})
    seen = here()
    assert seen.labels("job_last_success_timestamp_seconds", "job") == {"c.d"}
    assert seen.labels("job_last_attempt_timestamp_seconds", "job") == set()
    assert seen.value("job_last_success_timestamp_seconds", job="c.d") == 30


def test_readings_of_one_place_leave_the_others() -> None:
    record_job_history({"a.b": 10.0}, {})
    record_queue_lengths({"interactive": 3, "maintenance": 0})
    seen = here()
    assert seen.value("queue_length", queue="interactive") == 3
    assert seen.labels("queue_length", "queue") == {"interactive", "maintenance"}
    assert seen.value("job_last_success_timestamp_seconds", job="a.b") == 10


def test_readings_say_how_old_they_are() -> None:
    before = time.time()
    record_queue_lengths({})
    assert before <= here().value("readings_timestamp_seconds", place="queues") <= time.time()


def test_what_was_not_declared_so_is_refused() -> None:
    with pytest.raises(ValueError, match="parley_turns_running is counted, not read"):
        record_readings("here", {METRICS["parley_turns_running"]: {(): 1}})
    with pytest.raises(ValueError, match="parley_queue_length has the labels queue"):
        record_readings("here", {LENGTH: {("a", "b"): 1}})
    with pytest.raises(ValueError, match="no name of a place"):
        record_readings("../there", {LENGTH: {("a",): 1}})
    assert "here" not in here().labels("readings_timestamp_seconds", "place")


def test_runs_of_jobs_are_counted(since: Since) -> None:
    record_job("turns.close_stale", "succeeded", 0.2)
    record_job("turns.close_stale", "failed", 7)
    record_queue_wait(-3)  # two hosts' clocks
    record_queue_wait(2)
    assert since.counted("job_runtime_seconds_count", job="turns.close_stale", outcome="succeeded") == 1
    assert since.counted("job_runtime_seconds_sum", outcome="failed") == 7
    assert since.counted("queue_wait_seconds_sum") == 2
    assert since.counted("queue_wait_seconds_count") == 2


def test_the_beats_last_tick_is_shown() -> None:
    record_beat_tick(1_800_000_000)
    assert here().value("beat_last_tick_timestamp_seconds") == 1_800_000_000
