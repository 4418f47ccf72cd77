"""Metrics of the caches in each process."""

from typing import Final, Literal

from app.metrics.registry import KnownChildren, counter

CacheName = Literal["runtime_settings", "models", "mcp_servers"]
CacheResult = Literal["hit", "stale", "miss"]

_NAMES: Final[tuple[CacheName, ...]] = ("runtime_settings", "models", "mcp_servers")
CACHE_REQUESTS = counter(
    "cache_requests_total",
    "Reads of a cache: hit (fresh), stale (returned while it is refreshed) or miss (waited for).",
    ("cache", "result"),
)
CACHE_LOADS = counter("cache_loads_total", "Values that a cache has loaded, by outcome.", ("cache", "outcome"))

_requests = KnownChildren(CACHE_REQUESTS, [(name, result) for name in _NAMES for result in ("hit", "stale", "miss")])
_loads = KnownChildren(CACHE_LOADS, [(name, outcome) for name in _NAMES for outcome in ("ok", "error")])


def record_cache_read(cache: CacheName, result: CacheResult) -> None:
    """Record a read of `cache`."""
    _requests[cache, result].inc()


def record_cache_load(cache: CacheName, outcome: Literal["ok", "error"]) -> None:
    """Record that `cache` has loaded a value."""
    _loads[cache, outcome].inc()
