"""Connections to PostgreSQL: dead ones, hostile settings of a role, and poolers."""
