"""The variables of the environment and of a `.env` file, and checks of the file: unreadable lines, misspelled names."""

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from app.encoding import encoding_error

MIN_SIMILARITY = 0.85  # AI_MODLE is 0.88 similar to AI_MODEL; no variable of Docker Compose is that close to a setting


def read_variables(env_file: Path | None) -> dict[str, str]:
    """Return the variables that have a value, by name in upper case; the environment has precedence over `env_file`."""
    in_file = dotenv_values(env_file) if env_file else {}
    return {name.upper(): value for variables in (in_file, os.environ) for name, value in variables.items() if value}


def env_file_errors(env_file: Path, known: Sequence[str]) -> Iterator[str]:
    """Yield one line per error of `env_file`; a missing file has none.

    A name that is almost one of `known` is an error, because a misspelled setting would be ignored. Other names are
    accepted: Docker Compose and other programs read the same file.
    """
    try:
        content = env_file.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{env_file}: {error.strerror}; make it a file that this user may read, or delete it"
        return
    if complaint := encoding_error(content):
        yield f"{env_file}: {complaint}"
        return
    for binding in parse_stream(StringIO(content.decode(), newline=None)):
        text = binding.original.string  # includes preceding empty lines
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        place = f"{env_file}, line {line}"
        if binding.error:
            yield f"{place}: is not NAME=value, or its quotes do not match"
        elif similar := _similar_setting(binding.key, known):
            yield f"{place}: unknown setting {binding.key}; did you mean {similar}?"


def _similar_setting(name: str | None, known: Sequence[str]) -> str | None:
    if name is None or name.upper() in known:
        return None
    return next(iter(get_close_matches(name.upper(), known, 1, MIN_SIMILARITY)), None)
