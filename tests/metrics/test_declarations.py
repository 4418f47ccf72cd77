"""What is declared is what operators were promised, and nothing that grows without bounds."""

import ast
import importlib
import inspect

import pytest
from prometheus_client import CollectorRegistry, Counter

from app.metrics import exposition, registry
from app.metrics.registry import METRICS, Children
from tests.metrics.scrape import here

PROMISED = {
    "http_request_duration_seconds": ("method", "route", "status_class"),
    "http_requests_in_flight": (),
    "db_query_duration_seconds": ("statement", "outcome"),
    "db_pool_connections": ("state",),
    "db_pool_max": (),
    "db_pool_overflow": (),
    "db_pool_pending_requests": (),
    "db_pool_wait_seconds": (),
    "db_pool_use_seconds": (),
    "db_pool_timeouts_total": (),
    "ai_request_duration_seconds": ("provider", "model", "outcome"),
    "ai_time_to_first_token_seconds": ("provider", "model"),
    "ai_tokens_total": ("type",),
    "ai_errors_total": ("error_type",),
    "turns_total": ("status",),
    "turns_running": (),
    "turn_duration_seconds": (),
    "turns_resumed_total": (),
    "turns_replayed_total": (),
    "cache_reads_total": ("cache", "result"),
    "cache_loads_total": ("cache", "outcome"),
    "job_runtime_seconds": ("job", "outcome"),
    "job_last_success_timestamp_seconds": ("job",),
    "job_last_attempt_timestamp_seconds": ("job",),
    "queue_length": ("queue",),
    "queue_wait_seconds": (),
    "beat_last_tick_timestamp_seconds": (),
    "backup_last_success_timestamp_seconds": (),
    "backup_last_bytes": (),
    "restore_drill_timestamp_seconds": (),
    "restore_drill_success": (),
    "restore_drill_rto_seconds": (),
    "restore_drill_rpo_seconds": (),
}


def test_every_promised_metric_is_declared_with_its_labels() -> None:
    declared = {name.removeprefix("parley_"): metric.labels for name, metric in METRICS.items()}
    assert declared.items() >= PROMISED.items()


def test_statements_are_timed_in_the_promised_buckets() -> None:
    promised = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
    assert METRICS["parley_db_query_duration_seconds"].buckets == promised


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_declaration_says_what_it_is(metric: registry.Declared) -> None:
    assert metric.name.startswith("parley_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")


def test_nothing_is_shown_that_is_not_declared() -> None:
    suffixes = ("_bucket", "_count", "_sum")
    shown = {name for name in here().names() if name not in METRICS}
    assert {name for name in shown if not (name.endswith(suffixes) and name.rpartition("_")[0] in METRICS)} == set()


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="parley_turns_total is declared twice"):
        registry.counter("turns_total", "Again.")


@pytest.mark.parametrize("module", exposition.DECLARING, ids=lambda module: module.__name__)
def test_only_annotated_record_functions_are_public(module: object) -> None:
    assert inspect.ismodule(module)
    functions = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]
    assert functions
    wrong = [
        function.__name__
        for function in functions
        if not function.__name__.startswith("record") or len(function.__annotations__) <= function.__code__.co_argcount
    ]
    assert wrong == []


def test_metric_objects_stay_inside() -> None:
    """Nobody can count past the record functions, with labels of his own."""
    for module in exposition.DECLARING:
        tree = ast.parse(inspect.getsource(module))
        assigned = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and getattr(node.value.func, "id", "") in ("counter", "gauge", "histogram", "Children")
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        assert [name for name in assigned if not name.startswith("_")] == [], module.__name__


def test_label_values_beyond_the_limit_are_counted_as_others() -> None:
    metric = Counter("made_up", "For this test.", ("who",), registry=CollectorRegistry())
    children = Children(metric, limit=3, overflow=("others",))
    for number in range(10):
        children[(f"somebody {number}",)].inc()
    assert children[("somebody 0",)] is children[("somebody 0",)]
    counted = {dict(s.labels)["who"]: s.value for f in metric.collect() for s in f.samples if s.name.endswith("_total")}
    assert counted == {"somebody 0": 1, "somebody 1": 1, "somebody 2": 1, "others": 7}


def test_every_module_that_declares_is_known() -> None:
    """Importing the exposition is enough to know every metric."""
    folder = importlib.resources.files("app.metrics")
    declaring = {
        path.name.removesuffix(".py")
        for path in folder.iterdir()
        if path.name.endswith(".py")
        and path.name not in ("registry.py", "__init__.py")
        and any(f" = {kind}(" in path.read_text() for kind in ("counter", "gauge", "histogram", "reading"))
    }
    assert declaring == {module.__name__.rpartition(".")[2] for module in exposition.DECLARING}
