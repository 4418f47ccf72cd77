"""Backups of a server that requires TLS: the programs use it and verify the certificate as the application does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.backup.create import create
from ops.backup.drill import DrillReport, drill
from ops.backup.errors import ProgramsMissing
from ops.embedded.binaries import POSTGRES_WHEEL, wheel_folder
from tests.ops.backup.conftest import BackupInstall, fill
from tests.tls.conftest import DATA, tls_url

__all__ = ["tls_url"]


@pytest.mark.process
def test_backup_and_drill_over_tls(install: Callable[..., BackupInstall], tls_url: str) -> None:
    fill(tls_url)
    parley = install(f"{tls_url}?sslmode=verify-full&sslrootcert={DATA / 'ca.pem'}")
    parley.run(create)
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok, drilled.problems

    wheel = wheel_folder(POSTGRES_WHEEL)
    assert isinstance(wheel, Path)
    with pytest.raises(ProgramsMissing, match=r"was built without TLS|cannot be restored into"):
        install(f"{tls_url}?sslmode=require", programs=wheel / "pginstall" / "bin").run(create)
