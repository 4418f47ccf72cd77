"""All alerts but those of checks, in the order of the rules.

`ops/generate/prometheus.py` writes the rules and their tests, and adds an alert for each check of the doctor.
"""

from ops.catalogue.call_alerts import CALL_ALERTS
from ops.catalogue.operations_alerts import OPERATIONS_ALERTS
from ops.catalogue.service_alerts import SERVICE_ALERTS

ALERTS = (*SERVICE_ALERTS, *OPERATIONS_ALERTS, *CALL_ALERTS)


def limit_of(name: str) -> float:
    """Return the limit of the alert with this name. Raises `KeyError` if there is none."""
    return {alert.name: alert for alert in ALERTS}[name].limit
