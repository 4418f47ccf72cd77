"""Creation of a server by its name."""

from ops.embedded.errors import EmbeddedError
from ops.embedded.server import Options, Server
from ops.embedded.site import Site


def create_server(name: str, site: Site, options: Options) -> Server:
    """Return the server `name`. Only its module is imported, because the client libraries are slow to import."""
    if name == "postgres":
        from ops.embedded.postgres_server import PostgresServer

        return PostgresServer(site, options)
    if name == "redis":
        from ops.embedded.redis_server import RedisServer

        return RedisServer(site, options)
    raise EmbeddedError(f"there is no embedded server called {name!r}")
