"""Our blueprint: reads strictly, and declares who may enter."""

from typing import Any

import flask_smorest

from app.api.access import Access, admit
from app.api.parsing import StrictParser


class Blueprint(flask_smorest.Blueprint):
    """A flask-smorest blueprint with an `access` that holds for each of its routes; there is no default."""

    ARGUMENTS_PARSER = StrictParser()

    def __init__(self, name: str, import_name: str, *, access: Access, **options: Any) -> None:
        super().__init__(name, import_name, **options)
        self.access = access
        self.before_request(lambda: admit(access))
