"""The checks of indexes and of the planner's statistics. A module here must be in `ops/doctor/index_registry.py`."""
