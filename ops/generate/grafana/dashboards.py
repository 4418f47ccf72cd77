"""The list of all dashboards."""

from ops.generate.grafana.api import API
from ops.generate.grafana.database import DATABASE
from ops.generate.grafana.indexes import INDEXES_AND_ARCHIVAL
from ops.generate.grafana.jobs import JOBS
from ops.generate.grafana.json_model import dashboard_json
from ops.generate.grafana.overview import OVERVIEW
from ops.generate.grafana.panels import Dashboard
from ops.generate.grafana.turns import TURNS_AND_PROVIDERS

DASHBOARDS = (OVERVIEW, DATABASE, TURNS_AND_PROVIDERS, JOBS, INDEXES_AND_ARCHIVAL, API)
FOLDER = "dashboards/grafana"


def path_of(dashboard: Dashboard) -> str:
    """Return the path of the file of a dashboard, from the project's folder."""
    return f"{FOLDER}/{dashboard.uid}.json"


def generate(dashboard: Dashboard) -> str:
    """Return the JSON of a dashboard."""
    return dashboard_json(dashboard, DASHBOARDS)
