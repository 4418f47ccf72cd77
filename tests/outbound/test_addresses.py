"""The policy of addresses: what a host resolves to decides, in every spelling, and the connection goes there."""

import socket
from collections.abc import Mapping
from typing import Any

import pytest

from app.outbound.addresses import AddressPolicy
from app.outbound.deadlines import Deadlines
from app.outbound.errors import AddressRefused, ConnectFailed
from app.outbound.timeouts import Timeouts
from app.outbound.transport import NO_HEADERS, Transport
from tests.fakes import scripts
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream

TIMEOUTS = Timeouts(connect=5, first_token=5, idle=5, total=10)
PUBLIC = "93.184.216.34"
PRIVATE = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # shared by carriers, and the metadata of one cloud
    "0.0.0.0",
    "198.18.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fc00::1",
    "fe80::1%eth0",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
    "ff02::1",
    "224.0.0.1",
)
METADATA = ("169.254.169.254", "::ffff:169.254.169.254", "fe80::a9fe:a9fe", "168.63.129.16", "fd00:ec2::254")


def policy(*hosts: str) -> AddressPolicy:
    return AddressPolicy(hosts, setting="MCP_PRIVATE_HOSTS")


def post(transport: Transport, headers: Mapping[str, str] = NO_HEADERS) -> int:
    body = transport.post_to_base(b"{}", Deadlines(TIMEOUTS), headers)
    body.read_error()
    body.close()
    return body.status


@pytest.mark.parametrize("address", PRIVATE + METADATA)
def test_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        policy("other.example").check("tools.example", [address])
    with pytest.raises(AddressRefused):  # one private address among public ones is enough
        policy().check("tools.example", [PUBLIC, address])


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1", "::ffff:93.184.216.34", "8.8.8.8"])
def test_public_address_is_allowed(address: str) -> None:
    policy().check("tools.example", [address])


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fc00::1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("host", ["tools.internal", "TOOLS.internal", "tools.internal."])
def test_named_host_may_be_private(host: str, address: str) -> None:
    policy("Tools.Internal").check(host, [address])


@pytest.mark.parametrize("address", [*METADATA, "0.0.0.0", "224.0.0.1"])
def test_metadata_is_refused_for_named_host(address: str) -> None:
    with pytest.raises(AddressRefused):
        policy("tools.internal").check("tools.internal", [address])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_each_spelling_of_loopback_is_refused_before_a_connection(host: str) -> None:
    with Upstream() as upstream:
        url = f"http://{host}:{upstream.port}/mcp"
        with pytest.raises(AddressRefused):
            post(Transport(url, "", {}, policy()))
        assert upstream.connections == 0


def test_connection_goes_to_checked_address_of_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *arguments: Any, **named: Any) -> Any:
        if host != "tools.internal":
            return real(host, *arguments, **named)
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        names.append(host)
        return real("127.0.0.1" if len(names) == 1 else "192.0.2.1", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with Upstream(scripts.status(200, {"ok": True})) as upstream:
        transport = Transport(f"http://tools.internal:{upstream.port}/mcp", "", {}, policy("tools.internal"))
        assert post(transport, {"Mcp-Method": "tools/list"}) == 200
        seen = upstream.requests[0]
        assert (seen.path, seen.headers["host"]) == ("/mcp", f"tools.internal:{upstream.port}")
        assert seen.headers["mcp-method"] == "tools/list"
    assert names == ["tools.internal"]


def test_certificate_is_checked_for_host_name_and_not_for_address(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == "tools.internal" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))  # of 127.0.0.1 only
    with Upstream(scripts.status(200, {"ok": True}), tls=server_context()) as upstream:
        by_name = Transport(f"https://tools.internal:{upstream.port}/mcp", "", {}, policy("tools.internal"))
        with pytest.raises(ConnectFailed, match="certificate"):
            post(by_name)
        by_address = Transport(f"https://127.0.0.1:{upstream.port}/mcp", "", {}, policy("127.0.0.1"))
        assert post(by_address) == 200
