"""What is known of a server from one run to the next: `<home>/run/<server>.json`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ops.embedded.site import Site, explained


@dataclass(frozen=True)
class State:
    """`pid` and `born` (the process's creation time, so that a reused pid is not taken for it) are None if stopped.

    `ready` is true once it has answered; `keeper` is the keeper's process id.
    """

    port: int
    version: str
    keeper: int | None = None
    pid: int | None = None
    born: float | None = None
    ready: bool = False

    def process(self) -> psutil.Process | None:
        """The server's process, if it still lives."""
        if self.pid is None or self.born is None:
            return None
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def path_of(site: Site, name: str) -> Path:
    return site.folder("run") / f"{name}.json"


def read(site: Site, name: str) -> State | None:
    """The last state written, or None when there is none that can be understood."""
    with explained(site.home):
        try:
            return State(**json.loads(path_of(site, name).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def write(site: Site, name: str, state: State) -> None:
    """Replace the state in one step; readers see the old one or the new one."""
    with explained(site.home):
        path = path_of(site, name)
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            site.give_to_owner(descriptor)
            json.dump(asdict(state), file)
        draft.replace(path)
