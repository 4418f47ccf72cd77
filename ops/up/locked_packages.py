"""The packages of lock files and of a virtual environment. Standard library only, as in the bootstrap."""

import re
from collections.abc import Iterable
from pathlib import Path

KEPT = frozenset({"pip", "parley"})  # installed by the bootstrap, and in no lock file


def locked_names(lock: str) -> set[str]:
    """Return the normalized names of the packages that a lock file's text pins."""
    return {_normalized(name) for name in re.findall(r"^([\w.-]+)(?:\[[\w.,-]+\])?==", lock, re.MULTILINE)}


def installed_names(venv: Path) -> set[str]:
    """Return the normalized names of the packages in a virtual environment."""
    infos = venv.glob("lib/*/site-packages/*.dist-info")
    return {_normalized(info.name.partition("-")[0]) for info in infos}


def names_to_remove(venv: Path, locks: Iterable[Path]) -> list[str]:
    """Return the packages in the virtual environment that are in none of the lock files any more, sorted."""
    locked = set().union(*(locked_names(lock.read_text()) for lock in locks))
    return sorted(installed_names(venv) - locked - KEPT)


def _normalized(name: str) -> str:
    """Return the name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
