"""Parley's web application; `factory.create_app` builds it."""
