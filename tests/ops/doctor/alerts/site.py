"""The place of the fault of a check: databases, servers and folders; and the declaration of a fault."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from app.extensions import db
from tests.faults.proxy import Proxy
from tests.ops.doctor.conftest import DoctorInstall, as_role

Fault = Callable[["Site"], Generator[DoctorInstall | None, None, None]]
FAULTS: dict[str, Fault] = {}


@dataclass(frozen=True)
class Site:
    """A separate database at `url`; `make` creates installations on it, whose keywords are groups of settings.

    `own_server` starts another PostgreSQL for the faults that concern a whole server; the database in it is empty.
    """

    url: str
    make: Callable[..., DoctorInstall]
    own_server: Callable[[], DoctorInstall]
    patch: pytest.MonkeyPatch
    folder: Path
    stack: ExitStack

    @property
    def database(self) -> str:
        """The name of the database, quoted."""
        return f'"{make_url(self.url).database}"'

    def proxy(self, url: str) -> tuple[Proxy, str]:
        """Start a proxy to the server of `url`; return it and the URL through it."""
        target = make_url(url)
        wire = self.stack.enter_context(Proxy((str(target.host), int(target.port or 0))))
        return wire, target.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)

    def role(self, install: DoctorInstall) -> tuple[str, str]:
        """Create a role that may only connect; return its quoted name and the URL with it."""
        name = f"role_{make_url(self.url).database}"
        install.run(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{name}'")
        self.stack.callback(install.run, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')
        return f'"{name}"', as_role(self.url, name)

    @staticmethod
    def engine(install: DoctorInstall) -> Engine:
        """Return the engine of the installation."""
        with install.flask_app.app_context():
            return db.engine


def fault(check: str) -> Callable[[Fault], Fault]:
    """Declare the fault of a check, a generator.

    It yields an installation in which all is well, and then, with the fault made, None or another installation.
    """

    def register(function: Fault) -> Fault:
        assert check not in FAULTS
        FAULTS[check] = function
        return function

    return register
