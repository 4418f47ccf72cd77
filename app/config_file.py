"""What is wrong with a file of settings as a file: lines that nobody reads, and names that nobody knows."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

ALIKE = 0.85  # of 1: AI_MODLE is 0.88 of AI_MODEL; nothing that Docker Compose reads is that near to one of ours


def complaints(env_file: Path, known: Sequence[str]) -> Iterator[str]:
    """One line each. What is merely skipped would be missed later, so a name that is almost one of `known` is wrong;
    others are left alone: the file is also Docker Compose's, and whoever else reads it.
    """
    try:
        with env_file.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                text = binding.original.string  # with the empty lines before it
                line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
                place = f"{env_file}, line {line}"
                if binding.error:
                    yield f"{place}: is not NAME=value, or its quotes do not match"
                elif meant := _meant(binding.key, known):
                    yield f"{place}: {binding.key} is no setting; is {meant} meant?"
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        yield f"{env_file}: is not text in UTF-8"
    except OSError as error:
        yield f"{env_file}: {error.strerror}; make it a file that this user may read, or remove it"


def _meant(name: str | None, known: Sequence[str]) -> str | None:
    """The setting that somebody who wrote this had in mind; None for a setting, and for what is like none."""
    if name is None or name.upper() in known:
        return None
    return next(iter(get_close_matches(name.upper(), known, 1, ALIKE)), None)
