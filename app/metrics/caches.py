"""What processes remember for a moment, and how often that saves a look."""

from typing import Final, Literal

from app.metrics.registry import counter

CacheName = Literal["runtime_settings", "models"]
CacheResult = Literal["hit", "stale", "miss"]

_NAMES: Final[tuple[CacheName, ...]] = ("runtime_settings", "models")
_READS = counter(
    "cache_reads_total",
    "Values asked of a cache: hit, told at once; stale, told though it is due or cannot be had anew; miss, waited for.",
    ("cache", "result"),
)
_LOADS = counter("cache_loads_total", "Values that a cache has looked up, by how that ended.", ("cache", "outcome"))

# All of them from the start: what has never been seen is 0, not absent.
_reads = {(name, result): _READS.labels(name, result) for name in _NAMES for result in ("hit", "stale", "miss")}
_loads = {(name, outcome): _LOADS.labels(name, outcome) for name in _NAMES for outcome in ("ok", "error")}


def record_cache_read(cache: CacheName, result: CacheResult) -> None:
    """Somebody has asked `cache` for a value."""
    _reads[cache, result].inc()


def record_cache_load(cache: CacheName, outcome: Literal["ok", "error"]) -> None:
    """`cache` has looked a value up."""
    _loads[cache, outcome].inc()
