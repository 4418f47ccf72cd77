"""Recording of refused requests to the admin API."""

from flask import Response, current_app, request

from app.api.access import refused_identity, was_admitted
from app.api.blueprint import Blueprint
from app.database import current_engine
from app.services.addresses import network_of
from ops.runs.actors import Actor
from ops.runs.refusals import RefusalCounter

_EXTENSION = "parley.refusals"  # in `Flask.extensions`
_STATUSES = (401, 403)


def refusal_counter() -> RefusalCounter:
    """Return the counter of this process, created by the first call."""
    if _EXTENSION not in current_app.extensions:
        current_app.extensions[_EXTENSION] = RefusalCounter(current_engine())
    counter: RefusalCounter = current_app.extensions[_EXTENSION]
    return counter


def record_refusals(blueprint: Blueprint) -> Blueprint:
    """Count the requests to `blueprint` that access control refuses. What a view refuses, the view's audit records."""
    blueprint.after_request(_record)
    return blueprint


def _record(response: Response) -> Response:
    if response.status_code in _STATUSES and not was_admitted():
        refusal_counter().note(_caller(), f"{response.status_code} {request.method} {request.url_rule}")
    return response


def _caller() -> Actor:
    """Return the caller: the user of a valid token or key, else the network of the address."""
    identity, address = refused_identity(), request.remote_addr
    if identity is None:
        return Actor(kind="anonymous", name=network_of(address), address=address)
    return Actor(kind="user", name=str(identity.user_id), user_id=identity.user_id, address=address)
