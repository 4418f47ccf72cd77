"""The lease that allows one archival run, or one undo of a run, at a time."""

from contextlib import AbstractContextManager

from ops.runs.leases import Lease, exclusive_lease, is_leased

LEASE = "archive"


def archival_lock() -> AbstractContextManager[Lease]:
    """Hold the archival's lease. Raises `AlreadyRunning`."""
    return exclusive_lease(LEASE, "Another archival is running; see: flask ops archive status.")


def is_running() -> bool:
    """Return whether a run or an undo holds the lease now."""
    return is_leased(LEASE)
