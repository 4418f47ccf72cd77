"""The public conformance suite: what each revision requires of a server, against a running Parley."""

import re

import pytest
import yaml

from tests.mcp.conftest import McpServer, Run
from tests.mcp.install import PEERS, SOURCE

pytestmark = [pytest.mark.process, pytest.mark.timeout(300), pytest.mark.xdist_group("mcp_peers")]
needs_peers = pytest.mark.skipif(not PEERS.is_installed(), reason="the MCP clients are not installed: run `make mcp`")

REVISIONS = ("2025-11-25", "2026-07-28")
# The scenarios of what the server offers. Those of the protocol differ between the revisions.
OFFERED = {
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "json-schema-2020-12",
    "resources-list",
    "resources-read-text",
    "resources-read-binary",
    "resources-templates-read",
    "dns-rebinding-protection",
}
OF_REVISION = {
    "2025-11-25": {"server-initialize", "ping"},
    "2026-07-28": {"sep-2164-resource-not-found", "http-header-validation"},
}


def expected_failures(revision: str) -> str:
    return str(SOURCE / f"expected-failures-{revision}.yml")


@needs_peers
@pytest.mark.parametrize("revision", REVISIONS)
def test_server_passes_all_requirements_but_expected_failures(revision: str, server: McpServer, run: Run) -> None:
    done = run(
        "conformance",
        "server",
        *("--url", server.mcp_url),
        *("--requirements", revision),
        *("--expected-failures", expected_failures(revision)),
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    passed = set(re.findall(r"^✓ ([a-z0-9-]+): [1-9]\d* passed, 0 failed$", output, re.MULTILINE))
    assert OFFERED | OF_REVISION[revision] <= passed, output[-6000:]


@pytest.mark.parametrize("revision", REVISIONS)
def test_expected_failures_have_reasons_and_are_not_offered(revision: str) -> None:
    path = SOURCE / f"expected-failures-{revision}.yml"
    entries = [entry.partition(":") for entry in yaml.safe_load(path.read_text())["server"]]
    assert {scenario for scenario, _, _ in entries} & (OFFERED | OF_REVISION[revision]) == set()
    assert all(check for _, _, check in entries)  # an entry names one check, never a whole scenario
    lines = path.read_text().partition("server:\n")[2].splitlines()
    assert lines[0].lstrip().startswith("# ")  # each group begins with its reason
