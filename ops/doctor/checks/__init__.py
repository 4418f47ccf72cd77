"""The checks by concern, each with its thresholds.

A module here must be in `ops/doctor/registry.py`, or in `ops/doctor/index_registry.py` if its checks are of tables.
"""
