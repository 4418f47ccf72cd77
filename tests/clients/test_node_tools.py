"""Linters of the OpenAPI document, and a TypeScript client generated from it, with the programs of `make clients`."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from flask import Flask

from tests.clients.install import FOLDER, SOURCE, environment, is_installed
from tests.contracts.application import offline
from tests.web.server import WebServer

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("clients"),
    pytest.mark.skipif(not is_installed(), reason="Node.js and its packages are not installed: run `make clients`"),
]

DOCUMENT = "openapi.json"


@pytest.fixture(scope="module")
def document() -> bytes:
    return offline().test_client().get("/openapi.json").data


@pytest.fixture
def linted(document: bytes, tmp_path: Path) -> Path:
    """Return a folder with the document and the rules of the linters."""
    return filled(tmp_path, document, "redocly.yaml", ".redocly.lint-ignore.yaml", ".spectral.yaml")


@pytest.fixture
def project(document: bytes, tmp_path: Path) -> Path:
    """Return the folder of a TypeScript project with generated types."""
    folder = filled(tmp_path, document, "tsconfig.json", "chat.ts")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    run(folder, "openapi-typescript", DOCUMENT, "-o", "parley.ts")
    return folder


def filled(folder: Path, document: bytes, *names: str) -> Path:
    (folder / DOCUMENT).write_bytes(document)
    for name in names:
        shutil.copy(SOURCE / name, folder / name)
    return folder


def attempt(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of `make clients`."""
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )


def run(folder: Path, *command: str) -> str:
    """Run a program of `make clients` and return its output; fail with the output if it fails."""
    done = attempt(folder, *command)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    return output


def test_redocly_finds_nothing(linted: Path) -> None:
    assert "Your API description is valid" in run(linted, "redocly", "lint", DOCUMENT)


def test_redocly_ignores_only_what_it_finds(linted: Path) -> None:
    """Without the list of ignored places, it reports each of them and nothing else."""
    ignored = linted / ".redocly.lint-ignore.yaml"
    places = re.findall(r"'(#/.*)'", ignored.read_text())
    ignored.unlink()
    done = attempt(linted, "redocly", "lint", DOCUMENT, "--format=json")
    problems = orjson.loads(done.stdout)["problems"]
    assert sorted(problem["location"][0]["pointer"] for problem in problems) == sorted(places)


def test_spectral_finds_nothing(linted: Path) -> None:
    assert "No results" in run(linted, "spectral", "lint", DOCUMENT, "--fail-severity=warn")


def test_program_with_generated_types_compiles(project: Path) -> None:
    assert "/** @description The user's message, 1 to 10000 characters. */" in (project / "parley.ts").read_text()
    run(project, "tsc")


def test_program_with_unknown_error_code_does_not_compile(project: Path) -> None:
    program = project / "chat.ts"
    program.write_text(program.read_text().replace('"not_authenticated"', '"no_such_code"'))
    done = attempt(project, "tsc")
    assert (done.returncode != 0, "no_such_code" in done.stdout) == (True, True)


@pytest.fixture
def server(flask_app: Flask, database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", AI_PROVIDER="demo") as server:
        yield server


def test_program_chats_with_running_server(project: Path, server: WebServer) -> None:
    output = run(project, "node", "--experimental-strip-types", "chat.ts", server.url)
    assert "all checks passed" in output
