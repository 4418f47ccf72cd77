"""The application without packages that only tests need, so that its memory is that of production."""

import sys

# PyJWT, flask-smorest and kombu import these if they are installed.
sys.modules.update(dict.fromkeys(("cryptography", "yaml", "cffi")))  # type: ignore[arg-type]  # None: not to be found

from wsgi import flask_app  # noqa: E402

__all__ = ["flask_app"]
