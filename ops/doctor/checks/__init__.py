"""The checks by concern, each with its thresholds. A module here must be in `ops/doctor/registry.py`."""
