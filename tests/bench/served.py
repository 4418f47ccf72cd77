"""The application as production has it: without the packages that only tests bring along, which it would carry."""

import sys

sys.modules["cryptography"] = None  # type: ignore[assignment]  # PyJWT takes it along wherever it is installed

from wsgi import flask_app  # noqa: E402

__all__ = ["flask_app"]
