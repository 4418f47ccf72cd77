"""Policy of the addresses that a call may connect to, for URLs that are not part of the settings.

The addresses are checked after the name look-up, and the connection is made to a checked address, so neither the
spelling of a host (decimal, octal, a name) nor a second answer of the DNS leads elsewhere.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from app.outbound.errors import AddressRefused

Address = IPv4Address | IPv6Address

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = IPv6Network("::/96")
_IPV4_LENGTH = 32  # bits
# Azure's server of metadata and DNS has a public address.
_METADATA = (IPv4Network("168.63.129.16/32"), IPv6Network("fd00:ec2::/32"))


class AddressPolicy:
    """Allows public addresses, and for the named hosts also private ones and loopback.

    Link-local addresses, where clouds serve metadata, are refused for every host. `setting` is the name of the
    setting that names the hosts, for the error.
    """

    def __init__(self, private_hosts: Iterable[str] = (), *, setting: str) -> None:
        self._private_hosts = frozenset(map(normal_host, private_hosts))
        self._setting = setting

    def allows_private(self, host: str) -> bool:
        """Return whether `host` is named, so that it may have private addresses."""
        return normal_host(host) in self._private_hosts

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise `AddressRefused` unless all addresses of `host` are allowed."""
        private_allowed = self.allows_private(host)
        for text in addresses:
            address = ip_address(text.partition("%")[0])  # without the zone of a link-local address
            for reached in (address, *_embedded(address)):
                if _is_never_allowed(reached):
                    raise AddressRefused("has an address that is refused: it is link-local or has no single host")
                if not (reached.is_global or private_allowed):
                    raise AddressRefused(
                        f"has an address that is not public: if this server may be called, name its host in"
                        f" {self._setting}"
                    )


def normal_host(host: str) -> str:
    """Return `host` as it is compared: in lower case, without brackets and a final dot."""
    return host.strip().strip("[]").rstrip(".").lower()


def _is_never_allowed(address: Address) -> bool:
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or any(address.version == network.version and address in network for network in _METADATA)
    )


def _embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that a network may reach through an IPv6 address."""
    if isinstance(address, IPv4Address):
        return []
    candidates = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _NAT64) or (
        address in _IPV4_COMPATIBLE and not (address.is_loopback or address.is_unspecified)
    ):
        candidates.append(IPv4Address(int(address) & (2**_IPV4_LENGTH - 1)))
    return [candidate for candidate in candidates if candidate is not None]
