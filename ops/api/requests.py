"""Who asks, for the audit."""

from flask import request

from app.api.access import caller
from ops.actors import Actor


def requester() -> Actor:
    """The operator or admin whose request this is."""
    user_id = caller().user_id
    return Actor(kind="user", name=str(user_id), user_id=user_id, address=request.remote_addr)
