"""PARLEY_POSTGRES_BIN: the tests on another PostgreSQL are really on that one, or they fail."""

from pathlib import Path

import pytest

from ops.embedded import EmbeddedError, binaries
from ops.embedded.site import open_site


def test_only_the_chosen_one_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_site(tmp_path)
    found = binaries.find_postgres(site, None)
    monkeypatch.setenv("PARLEY_POSTGRES_BIN", str(found.folder))
    assert binaries.find_postgres(site, found.major) == found
    with pytest.raises(EmbeddedError, match=f"PostgreSQL {found.version}"):
        binaries.find_postgres(site, found.major - 1)
    monkeypatch.setenv("PARLEY_POSTGRES_BIN", "/nowhere/bin")
    with pytest.raises(EmbeddedError, match="/nowhere/bin/postgres cannot be run"):
        binaries.find_postgres(site, None)
