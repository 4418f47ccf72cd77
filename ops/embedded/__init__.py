"""PostgreSQL and Redis of Parley's own, for a machine that has neither: shared, and stopped by their last user.

with lease_postgres(home) as lease:
    connect(lease.url)
"""

from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import jwt_secret
from ops.embedded.lease import Lease, lease_postgres, lease_redis
from ops.embedded.on_demand import URL_WHEN_STARTED, start_when_used

__all__ = [
    "URL_WHEN_STARTED",
    "EmbeddedError",
    "Lease",
    "jwt_secret",
    "lease_postgres",
    "lease_redis",
    "start_when_used",
]
