"""What can go wrong with the embedded servers: one error, one line, and it says what to do."""

from app.errors import ParleyError


class EmbeddedError(ParleyError):
    """An embedded server cannot be had. `detail` is a single line for a person at a terminal."""

    code = "embedded_server_failed"
    default_detail = "The embedded server could not be started."
