"""Prometheus metrics: one module per area declares them and offers annotated `record_*` functions."""
