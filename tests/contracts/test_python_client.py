"""A Python client that openapi-python-client generates from the OpenAPI document: no warning, typed errors."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.application import offline

SECONDS = 180
CONFIG = Path(__file__).with_name("openapi-python-client.yaml")
ERROR = {
    "type": "urn:parley:problem:not_found",
    "title": "Not Found",
    "status": 404,
    "detail": "There is no such project.",
    "code": "not_found",
    "request_id": "01981c5e9d1f7c3e8a4b2f6d0c9e7a51",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the client and return the folder of its package."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(offline().test_client().get("/openapi.json").data)
    program = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    options = ["--path", "openapi.json", "--config", str(CONFIG), "--output-path", "parley_client"]
    done = subprocess.run(
        [*program, *options], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, "WARNING" in done.stdout) == (0, False), done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.mark.timeout(300)
def test_generated_client_has_typed_errors(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package)
    models: Any = import_module("parley_client.models")
    problem = models.NotFoundProblem.from_dict(dict(ERROR))
    assert (problem.status, problem.code) == (404, "not_found")
    message = models.ChatRequest(message="hello")
    assert message.to_dict() == {"message": "hello"}
    assert {role.value for role in models.UserRole} == {"user", "operator", "admin"}
    operation: Any = import_module("parley_client.api.chat.send_message")
    client: Any = import_module("parley_client").Client(base_url="http://unused")
    response = import_module("httpx").Response(404, json=ERROR)
    assert isinstance(operation._parse_response(client=client, response=response), models.NotFoundProblem)
