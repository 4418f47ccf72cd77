"""Upgrades: the locks that the next `flask db upgrade` would take on existing tables."""
