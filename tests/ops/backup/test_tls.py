"""A server that takes nobody without TLS: the programs must speak it too, and verify what the application verifies."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.backup.create import create
from ops.backup.drill import Drilled, drill
from ops.backup.errors import ProgramsMissing
from ops.embedded.binaries import POSTGRES_WHEEL, wheel_folder
from tests.ops.backup.conftest import Installation, fill
from tests.tls.conftest import DATA, tls_url

__all__ = ["tls_url"]


@pytest.mark.process
def test_backup_and_drill_in_tls(install: Callable[..., Installation], tls_url: str) -> None:
    fill(tls_url)
    parley = install(f"{tls_url}?sslmode=verify-full&sslrootcert={DATA / 'ca.pem'}")
    parley.run(create)
    drilled: Drilled = parley.run(drill)
    assert drilled.ok, drilled.problems

    wheel = wheel_folder(POSTGRES_WHEEL)
    assert isinstance(wheel, Path)
    with pytest.raises(ProgramsMissing, match=r"was built without TLS|does not understand"):
        install(f"{tls_url}?sslmode=require", programs=wheel / "pginstall" / "bin").run(create)
