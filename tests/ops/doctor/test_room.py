"""The check of the room that the database has for new messages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.services.storage_room import free_bytes
from ops.doctor.checks.storage import NEAR, NEAR_FULL
from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall

Make = Callable[..., DoctorInstall]


@pytest.fixture
def url(shared_url: str) -> str:
    """Share the database, which these tests do not change."""
    return shared_url


@pytest.mark.parametrize(
    ("share", "level"),
    [(0.01, Level.OK), (0.5 / NEAR, Level.OK), (2 / NEAR, Level.WARNING), (2.0, Level.CRITICAL)],
)
def test_free_space_is_compared_with_its_limit(make_install: Make, tmp_path: Path, share: float, level: Level) -> None:
    free = free_bytes(tmp_path)
    assert free is not None
    limits = {"folder": tmp_path, "min_free_bytes": int(free * share)}
    result = make_install(database={"url": make_install().url, **limits}).run_check("storage.room")
    assert result.level is level, result.findings
    for finding in result.findings:
        assert finding.object == "DATABASE_MIN_FREE_BYTES"
        assert ("are refused soon" in finding.message) == (level is Level.WARNING)
        assert str(finding.remedy).endswith("?")


@pytest.mark.parametrize(
    ("share", "level"),
    [(0.5, Level.OK), ((1 + NEAR_FULL) / 2, Level.WARNING), (2.0, Level.CRITICAL)],
)
def test_size_is_compared_with_its_limit(make_install: Make, share: float, level: Level) -> None:
    size = make_install().value("SELECT pg_database_size(current_database())")
    limits = {"max_bytes": int(size / share), "min_free_bytes": 0}
    result = make_install(database={"url": make_install().url, **limits}).run_check("storage.room")
    assert result.level is level, result.findings
    assert [finding.object for finding in result.findings] == ([] if level is Level.OK else ["DATABASE_MAX_BYTES"])


def test_no_limits_are_ok(make_install: Make) -> None:
    limits = {"folder": None, "max_bytes": 0}
    result = make_install(database={"url": make_install().url, **limits}).run_check("storage.room")
    assert (result.level, result.findings) == (Level.OK, ())


def test_unreadable_folder_has_no_limit(make_install: Make, tmp_path: Path) -> None:
    limits = {"folder": tmp_path / "not" / "there", "min_free_bytes": 1}
    result = make_install(database={"url": make_install().url, **limits}).run_check("storage.room")
    assert result.level is Level.OK
