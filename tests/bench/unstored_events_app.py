"""The production application without stored turn events, to measure what storing them costs."""

from app.container import services
from tests.bench.production_app import flask_app

__all__ = ["flask_app"]

with flask_app.app_context():
    engine = services().turns
    engine._event_store.request_storage = lambda turn: None  # type: ignore[method-assign]  # nothing else starts the storing
