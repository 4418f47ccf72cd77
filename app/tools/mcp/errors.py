"""Errors of a request to an MCP server."""

from app.outbound.errors import ConnectFailed, DeadlineExceeded, OutboundError


class McpError(Exception):
    """A request that has no result.

    The message is a predicate whose subject is the server: "refused the connection". It quotes nothing that the server
    sent; `reason` may, cleaned and cut. `uncertain`: the server may have carried the request out. `alive`: the server
    answered, so its circuit stays as it is. `unreachable`: nothing was sent. `network`: there is no response.
    `code` is the code of a JSON-RPC error, `status` that of HTTP.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        uncertain: bool = False,
        alive: bool = False,
        unreachable: bool = False,
        network: bool = False,
        code: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.reason = message, reason
        self.uncertain, self.alive, self.unreachable, self.network = uncertain, alive, unreachable, network
        self.code, self.status = code, status


def of_outbound(error: OutboundError) -> McpError:
    """Return the error for a failed connection or transfer."""
    unreachable = isinstance(error, ConnectFailed) or (isinstance(error, DeadlineExceeded) and error.connecting)
    return McpError(str(error), reason=error.reason, uncertain=not unreachable, unreachable=unreachable, network=True)
