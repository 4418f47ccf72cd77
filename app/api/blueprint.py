"""The blueprint of all views: strict parsing, access control, and idempotent creation."""

from collections.abc import Callable
from typing import Any, TypeVar

import flask_smorest
from flask import request
from marshmallow import Schema

from app.api import idempotency
from app.api.access import Access, admit, scope_for
from app.api.parsing import StrictParser
from app.enums import KeyScope
from app.errors import IdempotencyMismatch, ParleyError, RequestInProgress

RAISES = "x-raises"  # key of the errors that `raises` declares; removed when the description is completed
# Response header of a view that creates something.
LOCATION = {"Location": {"description": "Path of the created object.", "required": True, "schema": {"type": "string"}}}

View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(flask_smorest.Blueprint):
    """A flask-smorest blueprint with one `access` for all its routes; there is no default.

    `scope` is the scope that an API key needs for all of them; without it, reading needs `read` and changing `write`.
    Requests are rate-limited, see `app.api.limits`, unless `limited` is False, as for health checks.
    With `always_served`, the bounds of `app.api.in_flight` do not apply. `streams` says that all responses are streams,
    `uploads` that bodies may be files. The OpenAPI document has the routes unless `documented` is False, as for a
    protocol that is not REST.
    """

    ARGUMENTS_PARSER = StrictParser()

    def __init__(
        self,
        name: str,
        import_name: str,
        *,
        access: Access,
        scope: KeyScope | None = None,
        limited: bool = True,
        always_served: bool = False,
        streams: bool = False,
        documented: bool = True,
        uploads: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(name, import_name, **options)
        self.access = access
        self.limited = limited
        self.always_served = always_served
        self.streams = streams
        self.documented = documented
        self.uploads = uploads
        self._scope = scope
        self.before_request(lambda: admit(access, self.scope_of(request.method)))

    def scope_of(self, method: str) -> KeyScope | None:
        """Return the scope that an API key needs for `method` in this blueprint.

        It is None where keys are not accepted (SESSION) or no authentication is needed (PUBLIC).
        """
        return scope_for(self.access, method, self._scope)

    @classmethod
    def raises(cls, *kinds: type[ParleyError]) -> Callable[[View], View]:
        """Declare the errors of a view for the API's description.

        Errors that follow from its route, access or arguments are added by `app.api.openapi`.
        """

        def decorate(view: View) -> View:
            declared = getattr(view, "_apidoc", {}).get("manual_doc", {}).get(RAISES, ())
            documented: View = cls.doc(**{RAISES: [*declared, *kinds]})(view)
            return documented

        return decorate

    def creates(self, schema: type[Schema], status: int = 201) -> Callable[[View], View]:
        """Declare a POST view that creates an object, once per `Idempotency-Key`.

        The view returns the object and the headers, with `Location`. Place it below `arguments`, which parse the
        request that the key identifies; the view must store through `app.services.transactions`. The response is kept
        for a day, so it must not contain secrets.
        """

        def decorate(view: View) -> View:
            for decorator in (
                self.response(status, schema, headers={**LOCATION, **idempotency.REPLAYED}),
                idempotency.replay_repeated,
                self.doc(parameters=[idempotency.PARAMETER]),
                self.raises(IdempotencyMismatch, RequestInProgress),
            ):
                view = decorator(view)
            return view

        return decorate
