"""Embedded PostgreSQL and Redis for a machine without them: shared by all users, stopped when the last one ends.

with lease_postgres(home) as lease:
    connect(lease.url)
"""

from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import jwt_secret
from ops.embedded.lease import Lease, lease_postgres, lease_redis
from ops.embedded.on_demand import URL_WHEN_STARTED, embedded_port, start_on_first_connection

__all__ = [
    "URL_WHEN_STARTED",
    "EmbeddedError",
    "Lease",
    "embedded_port",
    "jwt_secret",
    "lease_postgres",
    "lease_redis",
    "start_on_first_connection",
]
