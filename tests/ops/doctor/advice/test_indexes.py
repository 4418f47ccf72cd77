"""Advice on invalid indexes."""

import pytest

from ops.levels import Level
from tests.ops.doctor.advice.following import follow
from tests.ops.doctor.conftest import DoctorInstall

INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_turns_conversation'::regclass"


@pytest.mark.parametrize("check", ["indexes.expected", "indexes.invalid"])
def test_invalid_declared_index_is_fixed(install: DoctorInstall, check: str) -> None:
    install.run("SET allow_system_table_mods = on", INVALID)
    (finding,) = install.run_check(check).findings
    assert finding.level is Level.CRITICAL
    follow(install, finding)
    assert install.run_check(check).level is Level.OK


def test_failed_unique_index_that_no_model_declares_is_not_rebuilt_for_ever(install: DoctorInstall) -> None:
    """REINDEX would fail on the same duplicates each time."""
    install.run("CREATE TABLE things (a int)", "INSERT INTO things VALUES (1), (1)")
    with pytest.raises(Exception, match="duplicated"):
        install.run("CREATE UNIQUE INDEX CONCURRENTLY once ON things (a)")
    (finding,) = install.run_check("indexes.invalid").findings
    assert "REINDEX" not in f"{finding.sql} {finding.remedy}"
    assert "?" in str(finding.remedy)
    follow(install, finding)
    assert install.run_check("indexes.invalid").level is Level.OK


def test_interrupted_unique_index_can_be_rebuilt_once_there_are_no_duplicates(install: DoctorInstall) -> None:
    install.run("CREATE TABLE things (a int)", "INSERT INTO things VALUES (1), (1)")
    with pytest.raises(Exception, match="duplicated"):
        install.run("CREATE UNIQUE INDEX CONCURRENTLY once ON things (a)")
    install.run("UPDATE things SET a = 2 WHERE ctid = '(0,1)'", "REINDEX INDEX CONCURRENTLY once")
    assert install.run_check("indexes.invalid").level is Level.OK
