"""Which backups are kept: as asked for, and never one too few, whatever clocks do."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import load_settings
from app.config_keeping import Backups
from ops.backup.names import BackupName, new_name
from ops.backup.retention import AHEAD, Candidate, Decision, decide, kept_until

SOURCE, OTHER = "11111111", "22222222"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday
KEEP = load_settings(env_file=None).backups


def taken(ago: timedelta, source: str = SOURCE) -> BackupName:
    return new_name(source, NOW - ago)


def kept(decisions: list[Decision]) -> list[BackupName]:
    return [decision.name for decision in decisions if decision.keep]


def test_a_year_of_days_becomes_seven_days_four_weeks_and_twelve_months() -> None:
    names = [taken(timedelta(days=day)) for day in range(400)]
    left = [f"{name.taken_at:%Y-%m-%d}" for name in kept(decide(map(Candidate, names), KEEP, NOW))]
    assert left == [
        "2026-11-22", "2026-11-21", "2026-11-20", "2026-11-19", "2026-11-18", "2026-11-17", "2026-11-16",
        "2026-11-15", "2026-11-08", "2026-11-01", "2026-10-31", "2026-09-30", "2026-08-31", "2026-07-31", "2026-06-30",
        "2026-05-31", "2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31", "2025-12-31",
    ]  # fmt: skip


def test_day_by_day_it_comes_to_the_same() -> None:
    """Pruned after each backup, as the clock does it, the months are not lost on the way."""
    left: list[BackupName] = []
    for day in range(400):
        now = NOW + timedelta(days=day)
        left = kept(decide([Candidate(name) for name in [*left, new_name(SOURCE, now)]], KEEP, now))
    at_once = decide([Candidate(new_name(SOURCE, NOW + timedelta(days=day))) for day in range(400)], KEEP, now)
    assert [name.taken_at for name in left] == [name.taken_at for name in kept(at_once)]
    assert len(left) <= 7 + 4 + 12


def test_of_one_day_the_last_one_stays() -> None:
    early, late = taken(timedelta(hours=9)), taken(timedelta(hours=1))
    assert kept(decide([Candidate(early), Candidate(late)], KEEP, NOW)) == [late]


def test_the_last_proven_one_and_the_newest_good_one_never_go() -> None:
    old = [Candidate(taken(timedelta(days=day))) for day in range(3, 60)]
    proven = Candidate(taken(timedelta(days=44)), drilled_at=NOW - timedelta(days=44))
    proven_before = Candidate(taken(timedelta(days=45)), drilled_at=NOW - timedelta(days=45))
    least = KEEP.model_copy(update={"keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0})
    decisions = decide([*old, proven, proven_before], least, NOW)
    assert kept(decisions) == [old[0].name, proven.name]
    [why] = [decision.why for decision in decisions if decision.name == proven.name]
    assert why == "the last one that a drill proved"


def test_one_that_is_not_good_stands_for_no_day_and_is_kept_for_a_week() -> None:
    good, bad = Candidate(taken(timedelta(hours=3))), Candidate(taken(timedelta(hours=1)), trouble="its dump is gone")
    old = Candidate(taken(timedelta(days=9)), trouble="its dump is gone")
    decisions = {decision.name: decision for decision in decide([good, bad, old], KEEP, NOW)}
    assert decisions[good.name].keep
    assert decisions[bad.name].keep
    assert "kept for a week" in decisions[bad.name].why
    assert not decisions[old.name].keep
    assert all(decision.keep for decision in decide([bad, old], KEEP, NOW)), "without a good one they are all there is"


@pytest.mark.parametrize("days", [-4000, -400, 400, 4000])
def test_a_clock_that_jumps_costs_nothing(days: int) -> None:
    names = [Candidate(taken(timedelta(days=day))) for day in range(30)]
    before = set(kept(decide(names, KEEP, NOW)))
    assert before <= set(kept(decide(names, KEEP, NOW + timedelta(days=days))))


def test_one_from_the_future_takes_nobody_s_place() -> None:
    days = [Candidate(taken(timedelta(days=day))) for day in range(7)]
    future = Candidate(taken(-timedelta(days=900)))
    decisions = decide([*days, future], KEEP, NOW)
    assert set(kept(decisions)) == {each.name for each in (*days, future)}
    assert decisions[0].why == "dated in the future, so its age is not known"


def test_each_database_has_days_of_its_own() -> None:
    mine, theirs = taken(timedelta(hours=2)), taken(timedelta(hours=1), OTHER)
    assert set(kept(decide([Candidate(mine), Candidate(theirs)], KEEP, NOW))) == {mine, theirs}


def test_until_when_a_backup_is_kept_at_most() -> None:
    """What erasure tells people; tried by taking one every day until it goes."""
    first = new_name(SOURCE, datetime(2026, 1, 31, 12, tzinfo=UTC))
    for keep in (KEEP, KEEP.model_copy(update={"keep_monthly": 0}), KEEP.model_copy(update={"keep_weekly": 9})):
        left, now = [first], first.taken_at
        while first in left:
            now += timedelta(days=1)
            left = kept(decide([Candidate(name) for name in [*left, new_name(SOURCE, now)]], keep, now))
        assert now <= kept_until(first.taken_at, keep) + timedelta(days=1)


moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
candidates = st.builds(
    Candidate,
    st.builds(new_name, st.sampled_from([SOURCE, OTHER]), moments),
    st.sampled_from([None, None, "its dump is gone"]),
    st.none() | moments,
)
keeps = st.builds(
    lambda d, w, m: KEEP.model_copy(update={"keep_daily": d, "keep_weekly": w, "keep_monthly": m}),
    st.integers(1, 9), st.integers(0, 9), st.integers(0, 15),
)  # fmt: skip


@given(st.lists(candidates, max_size=60), keeps, moments)
def test_whatever_there_is(given_: list[Candidate], keep: Backups, now: datetime) -> None:
    decisions = decide(given_, keep, now)
    assert {decision.name for decision in decisions} == {candidate.name for candidate in given_}
    left = {decision.name for decision in decisions if decision.keep}
    for source in (SOURCE, OTHER):
        own = [each for each in given_ if each.name.source == source]
        good = [each.name for each in own if each.trouble is None and each.name.taken_at <= now + AHEAD]
        if good:
            assert max(good) in left
        if drilled := [each for each in own if each.drilled_at]:
            assert max(drilled, key=lambda each: each.drilled_at or now).name in left
        slots = keep.keep_daily + keep.keep_weekly + keep.keep_monthly
        assert len(left & set(good)) <= slots + 2
        days = sorted({name.taken_at.date() for name in good}, reverse=True)[: keep.keep_daily]
        assert set(days) <= {name.taken_at.date() for name in left}
    again = decide([each for each in given_ if each.name in left], keep, now)
    assert all(decision.keep for decision in again), "what was kept once is not removed by asking twice"
