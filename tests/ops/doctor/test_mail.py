"""The check of the mail server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from flask import Flask
from pydantic import SecretStr

from app.config import Mail, Settings
from app.extensions import db
from app.factory import create_app
from ops.checks.findings import Finding
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from tests.fakes.mail_server import CA, MailServer


@contextmanager
def application(settings: Settings, url: str | None) -> Iterator[Flask]:
    mail = Mail(SMTP_URL=url and SecretStr(url), MAIL_FROM="parley@example.org", SMTP_TIMEOUT=60)  # type: ignore[call-arg]
    application = create_app(replace(settings, mail=mail))
    with application.app_context():
        yield application
        db.engine.dispose()


def findings(settings: Settings, url: str | None) -> list[Finding]:
    with application(settings, url):
        [result] = run_doctor(checks=select_checks(["mail.reachable"])).results
    assert result.level is (Level.WARNING if result.findings else Level.OK), result
    return list(result.findings)


def test_server_that_cannot_be_used_is_reported_until_it_can(
    settings: Settings, flask_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CA))
    with MailServer(starttls=True, account=("me", "right")) as server:
        [wrong] = findings(settings, f"smtp://me:wr0ng@localhost:{server.port}")
        assert "535" in wrong.message
        assert "wr0ng" not in str(wrong)
        assert findings(settings, f"smtp://me:right@localhost:{server.port}") == []
    assert server.received == []
    [closed] = findings(settings, f"smtp://me:right@localhost:{server.port}")
    assert "ConnectionRefusedError" in closed.message


def test_silent_server_is_reported_within_seconds(settings: Settings, flask_app: Flask) -> None:
    with MailServer(silent=frozenset({"EHLO"})) as server:
        [finding] = findings(settings, f"smtp+plain://127.0.0.1:{server.port}")
    assert "Timeout" in finding.message or "Disconnected" in finding.message


def test_without_mail_server_all_is_ok(settings: Settings, flask_app: Flask) -> None:
    assert findings(settings, None) == []
