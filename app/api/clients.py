"""The client of the current request."""

from flask import request

from app.services.sessions import Client


def current_client() -> Client:
    """Return the client's address and its User-Agent header."""
    return Client(request.remote_addr, request.user_agent.string)
