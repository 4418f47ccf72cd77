"""Metrics of the processes themselves: version, memory, CPU and open files.

Each process records its own values, at most every `INTERVAL` seconds, when it ends a request or a job. The collector of
prometheus_client reads only the process that is scraped, and processes in other containers cannot be looked at.
"""

import os
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

import psutil

from app.metrics.registry import KnownChildren, counter, gauge

Kind = Literal["web", "worker"]

INTERVAL = 5.0  # seconds; reading the values takes about 0.1 ms
KINDS: tuple[Kind, ...] = ("web", "worker")

BUILD_INFO = gauge("build_info", "Always 1; the labels are what runs.", ("version", "python"), mode="mostrecent")
PROCESS_START_TIME = gauge(
    "process_start_time_seconds", "Unix time at which a process started.", ("kind",), mode="liveall"
)
PROCESS_RESIDENT_MEMORY_BYTES = gauge(
    "process_resident_memory_bytes", "Resident memory of a process.", ("kind",), mode="liveall"
)
PROCESS_OPEN_FDS = gauge(
    "process_open_fds", "Open file descriptors of a process, sockets included.", ("kind",), mode="liveall"
)
PROCESS_MAX_FDS = gauge("process_max_fds", "Most file descriptors that a process may open.", ("kind",), mode="liveall")
PROCESS_CPU_SECONDS = counter(
    "process_cpu_seconds_total", "CPU time of all processes, those that ended included.", ("kind",)
)

_cpu = KnownChildren(PROCESS_CPU_SECONDS, [(kind,) for kind in KINDS])


class _Sampler:
    """Records the values of this process."""

    def __init__(self, kind: Kind) -> None:
        self.process = psutil.Process()
        self.due = 0.0
        self._kind = kind
        self._cpu_seconds = 0.0

    def begin(self) -> None:
        BUILD_INFO.metric.labels(version("parley"), platform.python_version()).set(1)
        PROCESS_START_TIME.metric.labels(self._kind).set(self.process.create_time())
        PROCESS_MAX_FDS.metric.labels(self._kind).set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.sample()

    def sample(self) -> None:
        self.due = time.monotonic() + INTERVAL
        times = os.times()
        seconds = times.user + times.system
        _cpu[(self._kind,)].inc(max(0.0, seconds - self._cpu_seconds))
        self._cpu_seconds = seconds
        PROCESS_RESIDENT_MEMORY_BYTES.metric.labels(self._kind).set(self.process.memory_info().rss)
        PROCESS_OPEN_FDS.metric.labels(self._kind).set(self.process.num_fds())


_sampler: _Sampler | None = None  # None in commands and tests, whose values are of no interest


def record_process_begun(kind: Kind) -> None:
    """Begin to record the values of this process. Call it after a fork, in each process that serves."""
    global _sampler
    _sampler = _Sampler(kind)
    _sampler.begin()


def record_process(clock: Callable[[], float] = time.monotonic) -> None:
    """Record the values of this process, if it serves and they are older than `INTERVAL`."""
    if _sampler is not None and clock() >= _sampler.due:
        _sampler.sample()
