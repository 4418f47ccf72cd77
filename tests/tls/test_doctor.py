"""The doctor's check of encryption with a database that has TLS, at a public address."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import make_url

from app.config import Settings
from app.factory import create_app
from ops.doctor import run
from ops.doctor.checks import encryption
from ops.doctor.registry import CHECKS
from ops.levels import Level
from tests.tls.conftest import DATA

ENCRYPTION = [check for check in CHECKS if check.id == "connection.encryption"]


@pytest.mark.parametrize(
    ("query", "level"),
    [
        ({}, Level.WARNING),  # libpq prefers TLS, but would connect without it
        ({"sslmode": "require"}, Level.OK),
        ({"sslmode": "verify-full", "sslrootcert": str(DATA / "ca.pem")}, Level.OK),
    ],
)
def test_tls_without_sslmode_is_a_warning(
    settings: Settings, tls_url: str, monkeypatch: pytest.MonkeyPatch, query: dict[str, Any], level: Level
) -> None:
    monkeypatch.setattr(encryption, "peer_address", lambda _: "203.0.114.7")
    url = make_url(tls_url).update_query_dict(query).render_as_string(hide_password=False)
    with create_app(replace(settings, database=settings.database.model_copy(update={"url": url}))).app_context():
        (result,) = run.run_doctor(checks=ENCRYPTION).results
    assert result.level is level, result
    if result.findings:
        assert result.findings[0].evidence["sslmode"] == "prefer"
        assert str(result.findings[0].evidence["tls"]).startswith("TLS")
