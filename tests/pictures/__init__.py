"""Pictures of the dashboards, drawn from their JSON and the data of a running Prometheus."""
