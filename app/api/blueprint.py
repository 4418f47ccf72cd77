"""Our blueprint: reads strictly, and declares who may enter and what is created once."""

from collections.abc import Callable
from typing import Any, TypeVar

import flask_smorest
from flask import request
from marshmallow import Schema

from app.api import idempotency
from app.api.access import Access, admit, scope_for
from app.api.parsing import StrictParser
from app.errors import IdempotencyMismatch, ParleyError, RequestUnderWay
from app.models import KeyScope

RAISES = "x-raises"  # where an operation's description holds the errors of `raises` until it is completed
# For the description of a view that makes something.
LOCATION = {"Location": {"description": "Where it is now.", "required": True, "schema": {"type": "string"}}}

View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(flask_smorest.Blueprint):
    """A flask-smorest blueprint with an `access` that holds for each of its routes; there is no default.

    `scope` is what an API key needs for all of them; without it reading takes one scope and changing another. Requests
    are counted and limited, see `app.api.limits`, unless `limited` says that they cost nothing and are always wanted.
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
        **options: Any,
    ) -> None:
        super().__init__(name, import_name, **options)
        self.access = access
        self.limited = limited
        self._scope = scope
        self.before_request(lambda: admit(access, self.scope_of(request.method)))

    def scope_of(self, method: str) -> KeyScope | None:
        """The scope that an API key needs for `method` here.

        None where none opens anything (PERSON), and where nobody is asked who they are (PUBLIC).
        """
        return scope_for(self.access, method, self._scope)

    @classmethod
    def raises(cls, *kinds: type[ParleyError]) -> Callable[[View], View]:
        """For the API's description: what a view can fail with beyond what its route, its access and its arguments say.

        The description knows of those by itself, see `app.api.openapi`.
        """

        def decorate(view: View) -> View:
            known = getattr(view, "_apidoc", {}).get("manual_doc", {}).get(RAISES, ())
            documented: View = cls.doc(**{RAISES: [*known, *kinds]})(view)
            return documented

        return decorate

    def creates(self, schema: type[Schema], status: int = 201) -> Callable[[View], View]:
        """For a POST that makes something: what it answers, and that it makes it once for an `Idempotency-Key`.

        The view gives the thing and the headers, of which `Location` is one. It stands below `arguments`, which read
        what the key stands for, and stores through `app.services.transactions`. What is answered is kept for a day: no
        secret may be in it.
        """

        def decorate(view: View) -> View:
            for each in (
                self.response(status, schema, headers={**LOCATION, **idempotency.REPLAYED}),
                idempotency.answered_once,
                self.doc(parameters=[idempotency.PARAMETER]),
                self.raises(IdempotencyMismatch, RequestUnderWay),
            ):
                view = each(view)
            return view

        return decorate
