"""The same, except that what streams say is not stored: to see what storing costs."""

from typing import TYPE_CHECKING

from tests.bench.served import flask_app

if TYPE_CHECKING:
    from app.services.turns import TurnEngine

turns: "TurnEngine" = flask_app.extensions["parley"].turns
turns.listen = lambda turn: turn  # type: ignore[method-assign]  # the one place that asks for the storing
