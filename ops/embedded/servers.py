"""The servers by name."""

from ops.embedded.errors import EmbeddedError
from ops.embedded.server import Options, Server
from ops.embedded.site import Site


def make_server(name: str, site: Site, options: Options) -> Server:
    """Only the one that is asked for is imported: its client library is not free."""
    if name == "postgres":
        from ops.embedded.postgres_server import PostgresServer

        return PostgresServer(site, options)
    if name == "redis":
        from ops.embedded.redis_server import RedisServer

        return RedisServer(site, options)
    raise EmbeddedError(f"there is no embedded server called {name!r}")
