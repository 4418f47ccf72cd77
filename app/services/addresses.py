"""The network under which a caller's address is counted and compared."""

import ipaddress

UNKNOWN = "unknown"


def network_of(address: str | None) -> str:
    """Return the network of `address`: an IPv4 address itself, or the /64 of an IPv6 address, which one customer has.

    An IPv4-mapped IPv6 address is the IPv4 address. Anything else, such as the path of a socket, is `UNKNOWN`.
    """
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
