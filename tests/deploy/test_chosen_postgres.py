"""PARLEY_POSTGRES_BIN selects the PostgreSQL; no other one is used if it fails."""

from pathlib import Path

import pytest

from ops.embedded import EmbeddedError, binaries
from ops.embedded.site import open_site


def test_chosen_postgres_is_used_or_an_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_site(tmp_path)
    default = binaries.find_postgres(site, None)
    monkeypatch.setenv("PARLEY_POSTGRES_BIN", str(default.folder))
    assert binaries.find_postgres(site, default.major) == default
    with pytest.raises(EmbeddedError, match=f"PostgreSQL {default.version}"):
        binaries.find_postgres(site, default.major - 1)
    monkeypatch.setenv("PARLEY_POSTGRES_BIN", "/nowhere/bin")
    with pytest.raises(EmbeddedError, match="/nowhere/bin/postgres cannot be started"):
        binaries.find_postgres(site, None)
