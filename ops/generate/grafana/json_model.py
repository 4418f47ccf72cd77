"""The JSON of Grafana for a dashboard, built with Grafana's own SDK (classic schema: Grafana 10 and newer read it)."""

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import BigValueTextMode, DataSourceRef, GraphThresholdsStyleMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from app.metrics.jobs import JOB_LAST_SUCCESS_TIMESTAMP
from app.metrics.process import BUILD_INFO, PROCESS_START_TIME
from ops.catalogue.promql import series
from ops.generate.grafana.panels import Dashboard, Panel, Query, Row, label_values
from ops.generate.grafana.tables import as_one_table
from ops.generate.prometheus import PUBLISHED_AT

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
BUILDERS: dict[str, Any] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
    "heatmap": heatmap.Panel,
}
DASHED = GraphThresholdsStyleMode.DASHED  # Grafana draws no thresholds otherwise
WIDTH = 24  # columns of a dashboard
# What happened, from metrics, because Grafana's own annotations are lost with its database.
ANNOTATIONS = {
    "Start of a process": f"changes({series(PROCESS_START_TIME)}[1m]) > 0",
    "Archival": f"changes({series(JOB_LAST_SUCCESS_TIMESTAMP, job_name='archive.run')}[2m]) > 0",
    "Index repair": f"changes({series(JOB_LAST_SUCCESS_TIMESTAMP, job_name='indexes.apply')}[2m]) > 0",
    "Restore drill": f"changes({series(JOB_LAST_SUCCESS_TIMESTAMP, job_name='backups.weekly_drill')}[2m]) > 0",
}


def dashboard_json(dashboard: Dashboard, all_dashboards: tuple[Dashboard, ...]) -> str:
    """Return the JSON of a dashboard, with links to the others."""
    builder = (
        grafana.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags(["parley"])
        .editable()
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .with_variable(grafana.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for label, query in (
        ("job", f"label_values({_name(BUILD_INFO)}, job)"),
        ("instance", f'label_values({_name(BUILD_INFO)}{{job=~"$job"}}, instance)'),
        *((label, label_values(metric, label)) for label, metric in dashboard.variables),
    ):
        builder = builder.with_variable(_variable(label, query))
    for name, expr in ANNOTATIONS.items():
        builder = builder.annotation(_annotation(name, expr))
    for other in all_dashboards:
        if other is not dashboard:
            builder = builder.link(_link(other))
    number, y = 1, 0
    for row in dashboard.rows:
        number, y = _add_row(builder, row, number, y)
    return JSONEncoder(sort_keys=True, indent=1).encode(builder.build()) + "\n"


def _add_row(builder: grafana.Dashboard, row: Row, number: int, y: int) -> tuple[int, int]:
    """Add a row's title and its panels from left to right; return the next panel's number and the next free line."""
    builder.with_row(grafana.Row(row.title).id(number).grid_pos(models.GridPos(h=1, w=WIDTH, x=0, y=y)))
    number, y, x, height = number + 1, y + 1, 0, 0
    for panel in row.panels:
        if x + panel.width > WIDTH:
            x, y, height = 0, y + height, 0
        builder.with_panel(_panel(panel, number, models.GridPos(h=panel.height, w=panel.width, x=x, y=y)))
        number, x, height = number + 1, x + panel.width, max(height, panel.height)
    return number, y + height


def _panel(panel: Panel, number: int, position: models.GridPos) -> Any:
    builder = (
        BUILDERS[panel.kind]()
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .no_value(panel.no_value)
        .grid_pos(position)
        .links(_links(panel))
    )
    if panel.kind != "heatmap":
        steps = [models.Threshold(value=None, color=panel.base)]
        steps += [models.Threshold(value=value, color=color) for value, color in panel.thresholds]
        builder = builder.thresholds(grafana.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.kind == "timeseries":
        builder = builder.min(0)
    if panel.is_share:
        builder = builder.max(1)
    if panel.kind == "table":
        builder = as_one_table(builder, panel)
    if panel.kind == "timeseries" and panel.thresholds:
        builder = builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(DASHED))
    if panel.shows_names:
        builder = builder.text_mode(BigValueTextMode.NAME)
    for position_in_panel, query in enumerate(panel.queries):
        builder = builder.with_target(_target(query, chr(ord("A") + position_in_panel), panel.kind))
    return builder


def _target(query: Query, ref_id: str, kind: str) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery().expr(query.templated).legend_format(query.legend).ref_id(ref_id).datasource(DATASOURCE)
    )
    if kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    if kind == "heatmap":
        return target.range().format(PromQueryFormat.HEATMAP)
    return target.range()


def _links(panel: Panel) -> list[grafana.DashboardLink]:
    links = [
        grafana.DashboardLink("Runbook")
        .type(models.DashboardLinkType.LINK)
        .url(f"{PUBLISHED_AT}docs/runbooks/{panel.runbook}.md")
        .target_blank(True)
    ]
    if panel.link:
        links.append(
            grafana.DashboardLink("Details")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{panel.link}")
            .keep_time(True)
            .include_vars(True)
        )
    return links


def _link(other: Dashboard) -> grafana.DashboardLink:
    return (
        grafana.DashboardLink(other.title.partition(" / ")[2])
        .type(models.DashboardLinkType.LINK)
        .url(f"/d/{other.uid}")
        .keep_time(True)
        .include_vars(True)
    )


def _variable(name: str, query: str) -> grafana.QueryVariable:
    return (
        grafana.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _annotation(name: str, expr: str) -> grafana.AnnotationQuery:
    return (
        grafana.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(Query(expr).templated)
        .step("1m")
        .title_format(name)
    )


def _name(metric: Any) -> str:
    return str(metric.declared.name)
