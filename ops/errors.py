"""Errors that only operations raise."""

from app.errors import Conflict


class AlreadyRunning(Conflict):
    """Another run is in progress, and only one is allowed at a time."""

    code = "another_run_is_under_way"
    default_detail = "Another run of this is in progress; wait until it ends."


class LeaseLost(Conflict):
    """A lease that this process could not renew in time, and that another one has taken."""

    code = "lease_lost"
    default_detail = "Another process has taken the lease of this run, so it stops."


class UnknownState(Exception):
    """The state cannot be determined: the reason in one sentence, and a remedy that makes it possible."""

    def __init__(self, reason: str, *, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
