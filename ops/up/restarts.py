"""Pauses before the restarts of processes that ended by themselves."""

from dataclasses import dataclass, field

STEADY_SECONDS = 10.0  # a process that ran longer is started again without a pause
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds; the pause doubles with each run that was shorter


@dataclass
class RestartPauses:
    """The pauses before the restarts of one process, which is restarted for as long as it takes.

    A full disk or an unavailable server ends a process again and again; it comes back when the cause is gone.
    """

    started_at: float  # of the current run
    steady_seconds: float = STEADY_SECONDS
    steady_once: bool = field(default=False, init=False)
    _short_runs: int = field(default=0, init=False)

    def pause_after_end(self, ended_at: float) -> float:
        """Record the end of the run, and return the seconds to wait before the next start."""
        if ended_at - self.started_at >= self.steady_seconds:
            self.steady_once, self._short_runs = True, 0
            return 0.0
        self._short_runs += 1
        return min(FIRST_PAUSE * 2.0 ** (self._short_runs - 1), LONGEST_PAUSE)
