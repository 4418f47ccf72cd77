"""The log of an embedded server stays small while the server writes to it."""

import os
from pathlib import Path

from ops.embedded.logs import KEPT, LARGEST, ServerLog
from ops.embedded.site import open_site


def test_a_log_that_has_grown_is_cut_to_its_newest_lines(home: Path) -> None:
    log = ServerLog(open_site(home), "postgres")
    line = b"x" * 999 + b"\n"
    for _ in range(LARGEST // len(line)):
        os.write(log.descriptor, line)
    log.trim()
    assert log.path.stat().st_size == LARGEST
    os.write(log.descriptor, b"the newest\n")
    log.trim()
    assert log.path.stat().st_size == KEPT
    log.note("after the cut")
    written = log.path.read_text()
    assert "the newest\n" in written
    assert written.endswith("keeper: after the cut\n")


def test_only_what_was_written_since_the_start_is_quoted(home: Path) -> None:
    log = ServerLog(open_site(home), "postgres")
    log.note("an old failure")
    log.begin()
    assert log.text() == ""
    log.note("a new one")
    assert "a new one" in log.text()
    assert "old" not in log.text()
