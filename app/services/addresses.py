"""Network addresses as the ones they are counted under."""

import ipaddress

UNKNOWN = "unknown"


def network_of(address: str | None) -> str:
    """What stands for everybody who can call from `address`: itself, or for IPv6 its /64, which is one customer's.

    An IPv4 address in the clothes of IPv6 is itself. What is no address, such as that of a socket, is `unknown`.
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
