"""Dashboards of Grafana, generated from the metric objects of `app.metrics`."""
