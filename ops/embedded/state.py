"""The stored state of a server: `<home>/run/<server>.json`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.embedded.site import Site, translate_os_errors


@dataclass(frozen=True)
class State:
    """The state of a server. `keeper` is the pid of its keeper; `ready`: the server has accepted a connection.

    `pid` and `born`, the creation time of the process, which detects a reused pid, are None if it is stopped.
    """

    port: int
    version: str
    keeper: int | None = None
    pid: int | None = None
    born: float | None = None
    ready: bool = False


def path_of(site: Site, name: str) -> Path:
    return site.folder("run") / f"{name}.json"


def read(site: Site, name: str) -> State | None:
    """Return the last state, or None if there is no valid one."""
    with translate_os_errors(site.home):
        try:
            return State(**json.loads(path_of(site, name).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def write(site: Site, name: str, state: State) -> None:
    """Replace the state atomically."""
    with translate_os_errors(site.home):
        path = path_of(site, name)
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            site.give_to_owner(descriptor)
            json.dump(asdict(state), file)
        draft.replace(path)
