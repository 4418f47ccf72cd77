"""Schemas of the admin API, one module per blueprint."""
