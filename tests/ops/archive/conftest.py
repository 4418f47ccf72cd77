"""A database of its own: an archival archives whatever is idle, also the rows of other tests."""

from tests.archived import engine, flask_app, settings

__all__ = ["engine", "flask_app", "settings"]
