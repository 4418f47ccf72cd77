"""Declarations of metrics: the documented ones exist, with bounded labels."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from app.metrics import exposition, registry
from app.metrics.registry import METRICS, DeferredMetric, KnownChildren, LabelledChildren
from tests.metrics.scrape import here

DOCUMENTED = {
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
    "logins_total": ("outcome",),
    "session_refreshes_total": ("outcome",),
    "api_key_requests_total": ("outcome",),
    "cache_requests_total": ("cache", "result"),
    "cache_loads_total": ("cache", "outcome"),
    "job_runtime_seconds": ("job_name", "outcome"),
    "job_last_success_timestamp_seconds": ("job_name",),
    "job_last_attempt_timestamp_seconds": ("job_name",),
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


ROOT = Path(__file__).parents[2]
INVENTED = registry.Declared("invented", "counter", "For this test.", ("label",))
DECLARING_FUNCTIONS = ("counter", "gauge", "histogram", "LabelledChildren", "KnownChildren")


def test_documented_metrics_are_declared_with_their_labels() -> None:
    declared = {name.removeprefix("parley_"): metric.labels for name, metric in METRICS.items()}
    assert declared.items() >= DOCUMENTED.items()


def test_query_duration_has_documented_buckets() -> None:
    documented = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
    assert METRICS["parley_db_query_duration_seconds"].buckets == documented


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_declaration_follows_naming_rules(metric: registry.Declared) -> None:
    assert metric.name.startswith("parley_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    # Prometheus gives each series these labels, and would rename ours.
    assert not {"job", "instance"} & set(metric.labels)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert bool(metric.buckets) == (metric.kind == "histogram")
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")


def test_only_declared_metrics_are_exposed() -> None:
    suffixes = ("_bucket", "_count", "_sum")
    shown = {name for name in here().names() if name not in METRICS}
    assert {name for name in shown if not (name.endswith(suffixes) and name.rpartition("_")[0] in METRICS)} == set()


def test_second_declaration_of_name_raises() -> None:
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


def test_only_record_functions_set_labels() -> None:
    """Metric objects are public for dashboards and rules; their children are not, so label values are bounded."""
    for module in exposition.DECLARING:
        tree = ast.parse(inspect.getsource(module))
        children = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            for target in node.targets
            if getattr(node.value.func, "id", "") in ("LabelledChildren", "KnownChildren")
            and isinstance(target, ast.Name)
        ]
        assert [name for name in children if not name.startswith("_")] == [], module.__name__
    users = [
        str(path.relative_to(ROOT))
        for folder in ("app", "ops", "tasks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.parent.name != "metrics" and re.search(r"\b[A-Z_]{4,}\.metric\b", path.read_text())
    ]
    assert users == [], "call a record function of app.metrics"


@pytest.mark.parametrize("module", exposition.DECLARING, ids=lambda module: module.__name__)
def test_metric_object_is_named_after_its_metric(module: object) -> None:
    for name, value in vars(module).items():
        declared = getattr(value, "declared", value)
        if isinstance(declared, registry.Declared):
            expected = re.sub("_(total|seconds)$", "", declared.name.removeprefix(registry.PREFIX)).upper()
            assert name == expected


def test_label_values_above_limit_count_as_overflow() -> None:
    metric = Counter("invented", "For this test.", ("label",), registry=CollectorRegistry())
    children = LabelledChildren(DeferredMetric(INVENTED, lambda: metric), limit=3, overflow=("overflow",))
    for number in range(10):
        children[(f"value {number}",)].inc()
    assert children[("value 0",)] is children[("value 0",)]
    counted = {
        dict(s.labels)["label"]: s.value for f in metric.collect() for s in f.samples if s.name.endswith("_total")
    }
    assert counted == {"value 0": 1, "value 1": 1, "value 2": 1, "overflow": 7}


def test_unknown_label_values_raise() -> None:
    metric = Counter("known", "For this test.", ("label",), registry=CollectorRegistry())
    children = KnownChildren(DeferredMetric(INVENTED, lambda: metric), [("a",), ("b",)])
    children[("a",)].inc()
    with pytest.raises(KeyError):
        children[("c",)].inc()
    assert {dict(sample.labels)["label"] for family in metric.collect() for sample in family.samples} == {"a", "b"}


def test_exposition_imports_every_declaring_module() -> None:
    """Importing the exposition declares every metric."""
    folder = importlib.resources.files("app.metrics")
    declaring = {
        path.name.removesuffix(".py")
        for path in folder.iterdir()
        if path.name.endswith(".py")
        and path.name not in ("registry.py", "__init__.py")
        and any(f" = {kind}(" in path.read_text() for kind in ("counter", "gauge", "histogram", "external_gauge"))
    }
    assert declaring == {module.__name__.rpartition(".")[2] for module in exposition.DECLARING}
