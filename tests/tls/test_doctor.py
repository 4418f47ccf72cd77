"""What the doctor says of the way to a database that speaks TLS, if that way were a public one."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import make_url

from app.config import Settings
from app.factory import create_app
from ops import doctor
from ops.catalogue import CHECKS
from ops.checks import encryption
from ops.levels import Level
from tests.tls.conftest import DATA

ENCRYPTION = [check for check in CHECKS if check.id == "connection.encryption"]


@pytest.mark.parametrize(
    ("query", "level"),
    [
        ({}, Level.WARNING),  # libpq prefers TLS, and would go without
        ({"sslmode": "require"}, Level.OK),
        ({"sslmode": "verify-full", "sslrootcert": str(DATA / "ca.pem")}, Level.OK),
    ],
)
def test_tls_that_is_used_must_also_be_demanded(
    settings: Settings, tls_url: str, monkeypatch: pytest.MonkeyPatch, query: dict[str, Any], level: Level
) -> None:
    monkeypatch.setattr(encryption, "peer_address", lambda _: "203.0.114.7")
    url = make_url(tls_url).update_query_dict(query).render_as_string(hide_password=False)
    with create_app(replace(settings, database=settings.database.model_copy(update={"url": url}))).app_context():
        (answer,) = doctor.examine(checks=ENCRYPTION).answers
    assert answer.level is level, answer
    if answer.findings:
        assert answer.findings[0].evidence["sslmode"] == "prefer"
        assert str(answer.findings[0].evidence["tls"]).startswith("TLS")
