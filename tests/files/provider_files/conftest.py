"""A project whose files are copied to a provider, and the provider's account."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.config import Settings
from ops.checks.run import CheckResult
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.maintenance.provider_file_orphans import ProviderFilesReconciliation, reconcile_provider_files
from ops.maintenance.provider_files import ProviderFilesReport, sync_provider_files
from tests.factories import LoggedInUser
from tests.fakes.files_api import FilesAccount, FilesUpstream

PROJECT = Path(__file__).parents[3]
KEY = "sk-not-to-be-shown-0123456789"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\r\n--x\r\n"
NOTHING = ProviderFilesReport(0, 0, 0, 0, 0, 0, 0)
DAY = 86_400  # seconds

Put = Callable[..., dict[str, Any]]
Copies = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream() as upstream:
        yield upstream


@pytest.fixture
def account(upstream: FilesUpstream) -> FilesAccount:
    return upstream.account


@pytest.fixture
def settings(settings: Settings, upstream: FilesUpstream) -> Settings:
    """Return the settings with the fake as `compatible`, to which files may be copied."""
    provider = {"openai_base_url": upstream.base_url, "openai_api_key": SecretStr(KEY)}
    return replace(
        settings,
        provider=settings.provider.model_copy(update=provider),
        files=settings.files.model_copy(update={"providers": ("compatible",), "provider_timeout": 20}),
    )


@pytest.fixture
def project(client: FlaskClient, user: LoggedInUser) -> str:
    """Create a project that opts in."""
    created = client.post("/api/projects", json={"name": "P", "provider_files": True}, headers=user.headers)
    assert created.status_code == 201, created.text
    return str(created.json["id"])


@pytest.fixture
def put(client: FlaskClient, user: LoggedInUser, project: str) -> Put:
    """Return a function that uploads bytes to a project, by default the one that opts in, and returns the file."""

    def put(content: bytes, name: str = "a.txt", to: str | None = project) -> dict[str, Any]:
        url = f"/api/projects/{to}/files" if to else "/api/files"
        response = client.put(url, query_string={"name": name}, data=content, headers=user.headers)
        assert response.status_code in (200, 201), response.text
        return dict(response.json)

    return put


@pytest.fixture
def copies(client: FlaskClient, user: LoggedInUser) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Return a function that reads the copies of a file from the API."""
    return lambda file: list(client.get(f"/api/files/{file['id']}", headers=user.headers).json["provider_files"])


def sync(flask_app: Flask) -> ProviderFilesReport:
    with flask_app.app_context():
        return sync_provider_files()


def reconcile(flask_app: Flask, **options: Any) -> ProviderFilesReconciliation:
    with flask_app.app_context():
        return reconcile_provider_files(**options)


def checked(flask_app: Flask, check: str) -> CheckResult:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks([f"provider_files.{check}"])).results
        return result


def make_due(engine: Engine) -> None:
    """Let all pauses end."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE provider_files SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL"))
        connection.execute(text("UPDATE provider_file_removals SET next_attempt_at = now()"))


def remote_ids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT remote_id FROM provider_files ORDER BY 1")).scalars())
