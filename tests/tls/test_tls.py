"""DATABASE_URL with sslmode: encrypted, verified, or refused with a line that says why; in threads and under gevent."""

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
CA, STRANGER = f"sslrootcert={DATA / 'ca.pem'}", f"sslrootcert={DATA / 'stranger.pem'}"

# As the application connects, in a process that is cooperative like a web worker's, or not; one line for each URL.
ASK = """
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
        if report.answers:
            with db.engine.connect() as connection:
                tls = connection.execute(TLS).scalar()
        print(json.dumps({"detail": report.detail, "why": report.why, "tls": tls}))
"""

# Query and host of a URL, and what is said of it; None: it works.
CASES: dict[str, tuple[str, str, str | None]] = {
    "encrypted": ("sslmode=require", "localhost", None),
    "encrypted, as hosted databases write it": ("sslmode=require&channel_binding=require", "localhost", None),
    "verified": (f"sslmode=verify-full&{CA}", "localhost", None),
    "wrong name": (f"sslmode=verify-full&{CA}", "127.0.0.1", 'does not match host name "127.0.0.1"'),
    "wrong CA": (f"sslmode=verify-full&{STRANGER}", "localhost", "certificate verify failed"),
    "wrong CA, any name": (f"sslmode=verify-ca&{STRANGER}", "127.0.0.1", "certificate verify failed"),
    "no CA": ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "localhost", '"/nowhere/ca.pem" does not exist'),
    "no encryption": ("sslmode=disable", "localhost", "no encryption"),
}


def ask(how: str, *urls: str) -> list[dict[str, Any]]:
    """What the application has to say of a database at each of these URLs."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, how, *urls],
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
def answers(tls_url: str) -> Callable[[str], dict[str, dict[str, Any]]]:
    """A function that asks all cases, with both of the schemes that are in use."""
    server = make_url(tls_url)

    def answers(how: str) -> dict[str, dict[str, Any]]:
        urls = [
            f"{scheme}://{server.username}:{server.password}@{host}:{server.port}/{server.database}?{query}"
            for (query, host, _), scheme in zip(CASES.values(), ["postgres", "postgresql"] * len(CASES), strict=False)
        ]
        return dict(zip(CASES, ask(how, *urls), strict=True))

    return answers


@pytest.mark.process
@pytest.mark.xdist_group("tls")
@pytest.mark.parametrize("how", ["threads", "gevent"])
def test_what_is_asked_for_is_what_is_done(
    answers: Callable[[str], dict[str, dict[str, Any]]], tls_url: str, how: str
) -> None:
    password = str(make_url(tls_url).password)
    for case, answer in answers(how).items():
        _, _, why = CASES[case]
        if why is None:
            assert answer["tls"] == "TLSv1.3", (case, answer)
        else:
            assert answer["tls"] is None, (case, answer)
            assert answer["detail"] == "The database does not answer (OperationalError)."
            assert why in answer["why"], (case, answer)
            assert "\n" not in answer["why"]
        assert password not in str(answer)


def test_a_server_without_tls_is_refused_where_it_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            wire, _ = listener.accept()
            with wire:
                assert wire.recv(8) == bytes.fromhex("0000000804d2162f")  # SSLRequest
                wire.sendall(b"N")
                wire.recv(1)  # until the other side leaves

        threading.Thread(target=refuse, daemon=True).start()
        address = f"postgresql://parley:secret@127.0.0.1:{listener.getsockname()[1]}/parley"
        [answer] = ask("threads", f"{address}?sslmode=require")
    assert "server does not support SSL" in answer["why"]
