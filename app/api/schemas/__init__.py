"""Schemas of requests and responses, one module per entity."""
