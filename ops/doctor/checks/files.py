"""Uploaded files: whether the store has their contents, and whether they are read in isolation."""

import subprocess
from collections.abc import Iterator

from app.extraction.process import is_separated_from_network
from app.repositories.files import CONTENTS
from app.services.file_store import open_file_store
from app.storage.errors import StorageUnavailable
from app.storage.sorting import SizesByName, sorted_by_name
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.levels import Level

SHOWN = 5  # names of objects in a finding
_BATCH = 10_000


@check("files.contents", "Does the store of files have the contents of all files?", severity=Level.CRITICAL)
def find_missing_objects(context: CheckContext) -> Iterator[Finding]:
    """Find contents whose object is missing in the store, or has another size.

    Raises `UnknownState` if the store does not answer.
    """
    now = context.now  # a content that is stored while the store is listed may be missing in the list
    try:
        store = open_file_store(context.settings, quick=True)
        sizes = SizesByName(sorted_by_name(store.iterate_files()))
        missing, count = list[str](), 0
        for name, size in _contents(context, before=now):
            if sizes.find(name) != size:
                count += 1
                if count <= SHOWN:
                    missing.append(name)
    except StorageUnavailable as error:
        raise UnknownState(error.detail, remedy="Correct FILES_URL, or start the store") from error
    if count:
        yield Finding(
            level=Level.CRITICAL,
            message=f"{count} contents of files are missing in {store.url}, or have another size.",
            object="objects",
            evidence={"objects": missing, "store": store.url},
            remedy="Does FILES_URL name the right store? Can you put the objects back from a copy of it? If not, the"
            " users must upload these files again",
        )


@check("files.isolation", "Are files read without access to the network?", severity=Level.WARNING)
def find_missing_isolation(context: CheckContext) -> Iterator[Finding]:
    """Find out whether the process that extracts texts can leave the network. Reports ok if texts are not extracted.

    Raises `UnknownState` if no process can be started.
    """
    if not context.settings.files.extract:
        return
    try:
        is_separated = is_separated_from_network()
    except (OSError, subprocess.SubprocessError) as error:
        raise UnknownState(f"No process could be started: {error}", remedy="Free memory and processes") from error
    if not is_separated:
        yield Finding(
            level=Level.WARNING,
            message="This host does not let a process leave the network, so the process that reads uploaded files is"
            " only kept from opening files and connections by a limit.",
            object="namespaces",
            remedy="Can this host allow user namespaces to Parley, by sysctl or the container's security profile?"
            " If not, is the limit enough for you, or do you set FILES_EXTRACT=off?",
        )


def _contents(context: CheckContext, before: object) -> Iterator[tuple[str, int]]:
    after = ""
    while True:
        rows = CONTENTS.all(context.connection, {"after": after, "before": before, "batch": _BATCH})
        yield from ((row.object, row.bytes) for row in rows)
        if len(rows) < _BATCH:
            return
        after = rows[-1].object
