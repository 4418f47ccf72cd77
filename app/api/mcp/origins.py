"""The origins whose pages may call `/mcp`.

A page of any site can send requests to an address that its own host name resolves to (DNS rebinding), also to a server
that only this machine can reach. So a request of a foreign page is refused before anything else.
"""

import re
from collections.abc import Callable, Collection

from app.api.access import is_loopback
from app.config import Server

_LOOPBACK = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?")


def origin_rule(settings: Server) -> Callable[[str], bool]:
    """Return the function that decides whether pages of an origin may call `/mcp`.

    Those are the origins of CORS_ORIGINS, and this machine's own if the server listens on a loopback address only.
    """
    origins: Collection[str] = settings.cors_origins
    local = is_loopback(settings.host)
    return lambda origin: "*" in origins or origin in origins or (local and _LOOPBACK.fullmatch(origin) is not None)
