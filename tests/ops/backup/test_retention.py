"""Retention rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import load_settings
from app.config.storage import Backups
from ops.backup.names import BackupName, new_name
from ops.backup.retention import CLOCK_TOLERANCE, Candidate, Decision, decide, latest_expiry

SOURCE, OTHER = "11111111", "22222222"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday
KEEP = load_settings(env_file=None).backups


def name_aged(ago: timedelta, source: str = SOURCE) -> BackupName:
    return new_name(source, NOW - ago)


def kept_names(decisions: list[Decision]) -> list[BackupName]:
    return [decision.name for decision in decisions if decision.keep]


def test_daily_backups_of_a_year_leave_seven_days_four_weeks_and_twelve_months() -> None:
    names = [name_aged(timedelta(days=day)) for day in range(400)]
    left = [f"{name.taken_at:%Y-%m-%d}" for name in kept_names(decide(map(Candidate, names), KEEP, NOW))]
    assert left == [
        "2026-11-22", "2026-11-21", "2026-11-20", "2026-11-19", "2026-11-18", "2026-11-17", "2026-11-16",
        "2026-11-15", "2026-11-08", "2026-11-01", "2026-10-31", "2026-09-30", "2026-08-31", "2026-07-31", "2026-06-30",
        "2026-05-31", "2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31", "2025-12-31",
    ]  # fmt: skip


def test_pruning_daily_keeps_the_same_as_pruning_once() -> None:
    """As the daily job does it: the last backup of a month must survive until it is needed."""
    left: list[BackupName] = []
    for day in range(400):
        now = NOW + timedelta(days=day)
        left = kept_names(decide([Candidate(name) for name in [*left, new_name(SOURCE, now)]], KEEP, now))
    at_once = decide([Candidate(new_name(SOURCE, NOW + timedelta(days=day))) for day in range(400)], KEEP, now)
    assert [name.taken_at for name in left] == [name.taken_at for name in kept_names(at_once)]
    assert len(left) <= 7 + 4 + 12


def test_last_backup_of_a_day_is_kept() -> None:
    early, late = name_aged(timedelta(hours=9)), name_aged(timedelta(hours=1))
    assert kept_names(decide([Candidate(early), Candidate(late)], KEEP, NOW)) == [late]


def test_last_drilled_and_newest_good_backups_are_always_kept() -> None:
    old = [Candidate(name_aged(timedelta(days=day))) for day in range(3, 60)]
    proven = Candidate(name_aged(timedelta(days=44)), drilled_at=NOW - timedelta(days=44))
    proven_before = Candidate(name_aged(timedelta(days=45)), drilled_at=NOW - timedelta(days=45))
    least = KEEP.model_copy(update={"keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0})
    decisions = decide([*old, proven, proven_before], least, NOW)
    assert kept_names(decisions) == [old[0].name, proven.name]
    [reason] = [decision.reason for decision in decisions if decision.name == proven.name]
    assert reason == "the last successfully drilled backup"


def test_damaged_backup_is_kept_for_a_week_and_covers_no_day() -> None:
    good, bad = (
        Candidate(name_aged(timedelta(hours=3))),
        Candidate(name_aged(timedelta(hours=1)), problem="its dump is missing"),
    )
    old = Candidate(name_aged(timedelta(days=9)), problem="its dump is missing")
    decisions = {decision.name: decision for decision in decide([good, bad, old], KEEP, NOW)}
    assert decisions[good.name].keep
    assert decisions[bad.name].keep
    assert "kept for a week" in decisions[bad.name].reason
    assert not decisions[old.name].keep
    assert all(decision.keep for decision in decide([bad, old], KEEP, NOW)), "without a good backup all are kept"


@pytest.mark.parametrize("days", [-4000, -400, 400, 4000])
def test_clock_jump_deletes_nothing_more(days: int) -> None:
    names = [Candidate(name_aged(timedelta(days=day))) for day in range(30)]
    before = set(kept_names(decide(names, KEEP, NOW)))
    assert before <= set(kept_names(decide(names, KEEP, NOW + timedelta(days=days))))


def test_future_backup_replaces_no_other() -> None:
    days = [Candidate(name_aged(timedelta(days=day))) for day in range(7)]
    future = Candidate(name_aged(-timedelta(days=900)))
    decisions = decide([*days, future], KEEP, NOW)
    assert set(kept_names(decisions)) == {candidate.name for candidate in (*days, future)}
    assert decisions[0].reason == "dated in the future, so its age is unknown"


def test_rules_apply_to_each_source_separately() -> None:
    mine, theirs = name_aged(timedelta(hours=2)), name_aged(timedelta(hours=1), OTHER)
    assert set(kept_names(decide([Candidate(mine), Candidate(theirs)], KEEP, NOW))) == {mine, theirs}


def test_latest_expiry_is_an_upper_bound() -> None:
    """Takes a backup every day until the first one is deleted. Erasure receipts show this date."""
    first = new_name(SOURCE, datetime(2026, 1, 31, 12, tzinfo=UTC))
    for keep in (KEEP, KEEP.model_copy(update={"keep_monthly": 0}), KEEP.model_copy(update={"keep_weekly": 9})):
        left, now = [first], first.taken_at
        while first in left:
            now += timedelta(days=1)
            left = kept_names(decide([Candidate(name) for name in [*left, new_name(SOURCE, now)]], keep, now))
        assert now <= latest_expiry(first.taken_at, keep) + timedelta(days=1)


moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
candidates = st.builds(
    Candidate,
    st.builds(new_name, st.sampled_from([SOURCE, OTHER]), moments),
    st.sampled_from([None, None, "its dump is missing"]),
    st.none() | moments,
)
keeps = st.builds(
    lambda d, w, m: KEEP.model_copy(update={"keep_daily": d, "keep_weekly": w, "keep_monthly": m}),
    st.integers(1, 9), st.integers(0, 9), st.integers(0, 15),
)  # fmt: skip


@given(st.lists(candidates, max_size=60), keeps, moments)
def test_retention_invariants_hold_for_any_backups(given_: list[Candidate], keep: Backups, now: datetime) -> None:
    decisions = decide(given_, keep, now)
    assert {decision.name for decision in decisions} == {candidate.name for candidate in given_}
    left = {decision.name for decision in decisions if decision.keep}
    for source in (SOURCE, OTHER):
        own = [candidate for candidate in given_ if candidate.name.source == source]
        good = [
            candidate.name
            for candidate in own
            if candidate.problem is None and candidate.name.taken_at <= now + CLOCK_TOLERANCE
        ]
        if good:
            assert max(good) in left
        if drilled := [candidate for candidate in own if candidate.drilled_at]:
            assert max(drilled, key=lambda each: each.drilled_at or now).name in left
        slots = keep.keep_daily + keep.keep_weekly + keep.keep_monthly
        assert len(left & set(good)) <= slots + 2
        days = sorted({name.taken_at.date() for name in good}, reverse=True)[: keep.keep_daily]
        assert set(days) <= {name.taken_at.date() for name in left}
    again = decide([candidate for candidate in given_ if candidate.name in left], keep, now)
    assert all(decision.keep for decision in again), "a second pruning deletes nothing"
