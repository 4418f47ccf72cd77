"""The audit actor of the current request."""

from flask import request

from app.api.access import caller
from ops.runs.actors import Actor


def current_actor() -> Actor:
    """Return the operator or admin who makes the request."""
    user_id = caller().user_id
    return Actor(kind="user", name=str(user_id), user_id=user_id, address=request.remote_addr)
