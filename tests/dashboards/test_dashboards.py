"""The dashboards, against the public rules for bundled ones: each rule was broken by a dashboard that others ship."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from app.metrics.registry import METRICS
from ops.catalogue.recording_rules import RECORDING_RULES
from ops.generate.grafana.dashboards import DASHBOARDS, path_of

ROOT = Path(__file__).parents[2]
UIDS = ["parley-overview", "parley-database", "parley-turns", "parley-jobs", "parley-indexes", "parley-api"]
PATHS = [path_of(dashboard) for dashboard in DASHBOARDS]
# Names and labels that Prometheus adds itself.
FOREIGN = {"up"}
TARGET_LABELS = {"job", "instance", "le", "process"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def load(path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((ROOT / path).read_text())
    return data


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all panels but the titles of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the expressions of panels and annotations, with the variables replaced by values."""
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"] if "expr" in annotation)


def with_values(expression: str) -> str:
    """Return an expression as Prometheus gets it."""
    return re.sub(r"\$(job|instance|statement|route)\b", ".+", expression.replace("$__rate_interval", "1m"))


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Yield all selectors of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, str | float | int):
            yield from selectors(child)
    if isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)


def test_dashboards_have_their_fixed_uids() -> None:
    assert [load(path)["uid"] for path in PATHS] == UIDS


@pytest.mark.parametrize("path", PATHS)
def test_dashboard_is_provisioned_by_files(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "${DS_" not in text
    dashboard = load(path)
    assert "__inputs" not in dashboard
    assert dashboard["editable"] is True
    assert dashboard["description"]
    assert dashboard["schemaVersion"] >= 36


@pytest.mark.parametrize("path", PATHS)
def test_variables_are_datasource_job_and_instance_first(path: str) -> None:
    variables = load(path)["templating"]["list"]
    assert [variable["name"] for variable in variables][:3] == ["datasource", "job", "instance"]
    assert variables[0]["type"] == "datasource"
    assert not variables[0].get("current")
    for variable in variables[1:]:
        assert variable["datasource"] == DATASOURCE
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        name = re.match(r"label_values\((\w+)", variable["query"])
        assert name
        assert name[1] in METRICS or re.sub("_(bucket|count|sum)$", "", name[1]) in METRICS


@pytest.mark.parametrize("path", PATHS)
def test_every_panel_says_what_it_shows(path: str) -> None:
    for panel in panels(load(path)):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert panel["datasource"] == DATASOURCE
        assert panel["targets"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
        runbook = next(link["url"] for link in panel["links"] if link["title"] == "Runbook")
        assert (ROOT / "docs" / "runbooks" / runbook.rpartition("/")[2]).is_file(), runbook
        for link in panel["links"]:
            assert link["title"] == "Runbook" or link["url"].removeprefix("/d/") in UIDS


@pytest.mark.parametrize("path", PATHS)
def test_thresholds_are_drawn_and_results_of_several_queries_are_one_table(path: str) -> None:
    """Grafana draws no threshold into a graph without a style, and shows only the first of several tables."""
    for panel in panels(load(path)):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "timeseries" and len(defaults["thresholds"]["steps"]) > 1:
            assert defaults["custom"]["thresholdsStyle"]["mode"] == "dashed", panel["title"]
        if panel["type"] == "table" and len(panel["targets"]) > 1:
            merge, organize = panel["transformations"]
            assert merge["id"] == "merge", panel["title"]
            columns = set(organize["options"]["renameByName"].values())
            assert columns == {target["legendFormat"] for target in panel["targets"]}


@pytest.mark.parametrize("path", PATHS)
def test_first_row_asks_whether_the_data_is_there(path: str) -> None:
    first, *others = load(path)["panels"]
    assert (first["type"], first["title"]) == ("row", "Is the data there?")
    assert [panel["title"] for panel in others[:2]] == ["Scraped", "Beat's last tick"]
    assert not any(panel.get("collapsed") for panel in load(path)["panels"])


@pytest.mark.parametrize("path", PATHS)
def test_panels_fill_rows_without_overlap(path: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(path)["panels"]:
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & taken, panel["title"]
        assert position["x"] + position["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in load(path)["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", PATHS)
def test_expressions_use_declared_metrics_and_labels_of_the_chosen_jobs(path: str) -> None:
    recorded = {rule.name for rule in RECORDING_RULES}
    for expression in expressions(load(path)):
        parsed = promql_parser.parse(with_values(expression))
        found = list(selectors(parsed))
        assert found, expression
        for selector in found:
            if selector.name in recorded:
                continue
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert {"job", "instance"} <= labels, expression
            if selector.name in FOREIGN:
                continue
            name = selector.name if selector.name in METRICS else re.sub("_(bucket|count|sum)$", "", selector.name)
            assert name in METRICS, expression
            assert labels <= TARGET_LABELS | set(METRICS[name].labels), expression


@pytest.mark.parametrize("path", PATHS)
def test_rates_of_graphs_use_the_interval_of_the_panel_or_a_longer_one(path: str) -> None:
    for panel in panels(load(path)):
        for target in panel["targets"]:
            windows = re.findall(r"\[(\$__rate_interval|\w+)\]", target["expr"])
            assert all(window == "$__rate_interval" or window in ("5m", "10m", "1h") for window in windows)
