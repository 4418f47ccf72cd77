"""Tables of several queries: Grafana shows only the first one unless they are merged."""

from typing import Any

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models import dashboard as models

from ops.generate.grafana.panels import Panel


def as_one_table(builder: Any, panel: Panel) -> Any:
    """Merge the results by their labels, name the columns after the queries, and hide the time.

    The value of a single query without a legend is hidden: its labels are the content.
    """
    several = len(panel.queries) > 1
    columns = {f"Value #{_letter(n)}" if several else "Value": query for n, query in enumerate(panel.queries)}
    hidden = ["Time", *(name for name, query in columns.items() if not query.legend)]
    organize = {
        "excludeByName": dict.fromkeys(hidden, True),
        "renameByName": {name: query.legend for name, query in columns.items() if query.legend},
    }
    for name, options in (("merge", {}), ("organize", organize)):
        builder = builder.with_transformation(models.DataTransformerConfig(id_val=name, options=options))
    for query in panel.queries:
        if query.unit:
            builder = builder.override_by_name(
                query.legend, [models.DynamicConfigValue(id_val="unit", value=query.unit)]
            )
    if panel.sorted_by:
        builder = builder.sort_by([common.TableSortByFieldState().display_name(panel.sorted_by).desc(True)])
    return builder


def _letter(number: int) -> str:
    return chr(ord("A") + number)
