"""The program `flask`: Flask's own, with one line instead of a traceback for a `.env` that is not text.

Flask reads `.env` before it loads any command, so no command can catch the error.
"""

import os
import sys
from pathlib import Path

from dotenv import find_dotenv
from flask.cli import main as flask_main
from flask.helpers import get_load_dotenv

from app.encoding import encoding_error


def main() -> None:
    """Run Flask's command line."""
    # pydantic looks for plugins in the metadata of all installed packages; Parley has none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if get_load_dotenv():
        for name in (".flaskenv", ".env"):
            _check_encoding(find_dotenv(name, usecwd=True))
    flask_main()


def _check_encoding(path: str) -> None:
    """Exit with one line if `path`, unless it is empty, names a file that is not UTF-8 text."""
    try:
        complaint = encoding_error(Path(path).read_bytes()) if path else None
    except OSError as error:
        complaint = error.strerror
    if complaint:
        sys.exit(f"parley: {os.path.relpath(path)}: {complaint}")
