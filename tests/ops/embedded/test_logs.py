"""The size-limited log of an embedded server."""

import os
from pathlib import Path

from ops.embedded.logs import KEPT_BYTES, MAX_BYTES, ServerLog
from ops.embedded.site import open_site


def test_large_log_is_truncated_to_its_newest_lines(home: Path) -> None:
    log = ServerLog(open_site(home), "postgres")
    line = b"x" * 999 + b"\n"
    for _ in range(MAX_BYTES // len(line)):
        os.write(log.descriptor, line)
    log.trim()
    assert log.path.stat().st_size == MAX_BYTES
    os.write(log.descriptor, b"the newest\n")
    log.trim()
    assert log.path.stat().st_size == KEPT_BYTES
    log.note("after the cut")
    written = log.path.read_text()
    assert "the newest\n" in written
    assert written.endswith("keeper: after the cut\n")


def test_text_returns_only_lines_since_begin(home: Path) -> None:
    log = ServerLog(open_site(home), "postgres")
    log.note("an old failure")
    log.begin()
    assert log.text() == ""
    log.note("a new one")
    assert "a new one" in log.text()
    assert "old" not in log.text()
