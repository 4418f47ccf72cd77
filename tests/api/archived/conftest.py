"""A separate database, because archival bundles all idle conversations, including those of other tests."""

from tests.bundling import engine, flask_app, settings

__all__ = ["engine", "flask_app", "settings"]
