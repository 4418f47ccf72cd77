"""The application as production has it: without the packages that only tests bring along, which it would carry."""

import sys

# PyJWT, flask-smorest and kombu take them along wherever they are installed.
sys.modules.update(dict.fromkeys(("cryptography", "yaml", "cffi")))  # type: ignore[arg-type]  # None: not to be found

from wsgi import flask_app  # noqa: E402

__all__ = ["flask_app"]
