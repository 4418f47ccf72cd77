"""The error of the embedded servers."""

from app.errors import ParleyError


class EmbeddedError(ParleyError):
    """An embedded server cannot be started or used. `detail` is one line that says what to do."""

    code = "embedded_server_failed"
    default_detail = "The embedded server could not be started."
