"""DATABASE_URL with sslmode: encrypted, verified, or rejected with a reason; in threads and under gevent."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.tls.conftest import DATA

ROOT = Path(__file__).parents[2]
CA, OTHER_CA = f"sslrootcert={DATA / 'ca.pem'}", f"sslrootcert={DATA / 'stranger.pem'}"

# Connects as the application does, with or without gevent, and prints one line per URL.
CONNECT = """
import json, os, sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
    from psycogreen.gevent import patch_psycopg
    patch_psycopg()
from sqlalchemy import text
from app.config import load_settings
from app.extensions import db
from app.factory import create_app
from app.services import health

TLS = text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
for os.environ["DATABASE_URL"] in sys.argv[2:]:
    with create_app(load_settings(env_file=None)).app_context():
        report, tls = health.check(), None
        if report.reachable:
            with db.engine.connect() as connection:
                tls = connection.execute(TLS).scalar()
        print(json.dumps({"detail": report.detail, "reason": report.reason, "tls": tls}))
"""

# Query and host of a URL, and the expected reason; None: the connection succeeds.
CASES: dict[str, tuple[str, str, str | None]] = {
    "encrypted": ("sslmode=require", "localhost", None),
    "encrypted with channel binding": ("sslmode=require&channel_binding=require", "localhost", None),
    "verified": (f"sslmode=verify-full&{CA}", "localhost", None),
    "wrong name": (f"sslmode=verify-full&{CA}", "127.0.0.1", 'does not match host name "127.0.0.1"'),
    "wrong CA": (f"sslmode=verify-full&{OTHER_CA}", "localhost", "certificate verify failed"),
    "wrong CA, any name": (f"sslmode=verify-ca&{OTHER_CA}", "127.0.0.1", "certificate verify failed"),
    "no CA": ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "localhost", '"/nowhere/ca.pem" does not exist'),
    "no encryption": ("sslmode=disable", "localhost", "no encryption"),
}


def connect(mode: str, *urls: str) -> list[dict[str, Any]]:
    """Connect to each URL in a new process and return what the application reports. `mode` is threads or gevent."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, mode, *urls],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("PG", "DB_", "DATABASE_"))},
            "JWT_SECRET_KEY": "a-secret-for-tests-only-0123456789abcdef",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def connect_cases(tls_url: str) -> Callable[[str], dict[str, dict[str, Any]]]:
    """Return a function that connects to all cases, with both URL schemes in use."""
    server = make_url(tls_url)

    def connect_all(mode: str) -> dict[str, dict[str, Any]]:
        urls = [
            f"{scheme}://{server.username}:{server.password}@{host}:{server.port}/{server.database}?{query}"
            for (query, host, _), scheme in zip(CASES.values(), ["postgres", "postgresql"] * len(CASES), strict=False)
        ]
        return dict(zip(CASES, connect(mode, *urls), strict=True))

    return connect_all


@pytest.mark.process
@pytest.mark.xdist_group("tls")
@pytest.mark.parametrize("mode", ["threads", "gevent"])
def test_connection_is_as_sslmode_demands(
    connect_cases: Callable[[str], dict[str, dict[str, Any]]], tls_url: str, mode: str
) -> None:
    password = str(make_url(tls_url).password)
    for case, report in connect_cases(mode).items():
        _, _, reason = CASES[case]
        if reason is None:
            assert report["tls"] == "TLSv1.3", (case, report)
        else:
            assert report["tls"] is None, (case, report)
            assert report["detail"] == "The database does not answer (OperationalError)."
            assert reason in report["reason"], (case, report)
            assert "\n" not in report["reason"]
        assert password not in str(report)


def test_server_without_tls_is_rejected_by_sslmode_require() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(8) == bytes.fromhex("0000000804d2162f")  # SSLRequest
                connection.sendall(b"N")
                connection.recv(1)  # until the client disconnects

        threading.Thread(target=refuse, daemon=True).start()
        address = f"postgresql://parley:secret@127.0.0.1:{listener.getsockname()[1]}/parley"
        [report] = connect("threads", f"{address}?sslmode=require")
    assert "server does not support SSL" in report["reason"]
