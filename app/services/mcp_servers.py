"""The enabled MCP servers of one process, as operators registered them.

A process that uses them asks every two seconds, in the background, which of them have changed, and reads only those. A
change is effective everywhere within five seconds. While the database is unavailable, the last ones hold.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit_engine
from app.errors import DatabaseUnavailable, ParleyError
from app.outbound.timeouts import Timeouts
from app.repositories import mcp_servers as sql
from app.services.caches import Cache, CachePolicy
from app.services.secret_box import SecretBox, SecretUnreadable

POLICY = CachePolicy(fresh_for=2, stale_for=5, max_wait=1, retry_after=2)

_log = logging.getLogger("parley.mcp")


@dataclass(frozen=True, slots=True)
class AllowedTool:
    """A tool that turns may call, as long as its definition has this hash."""

    hash: str
    needs_approval: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A registered server. `headers` are None if they cannot be decrypted; `tools` are its cleaned definitions."""

    name: str
    url: str
    headers: Mapping[str, str] | None = field(default_factory=dict, repr=False)
    timeouts: Timeouts
    needs_approval: bool = False
    allowed: Mapping[str, AllowedTool] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    protocol_version: str | None = None
    revision: UUID


def server_timeouts(connect: float, call: float, total: float) -> Timeouts:
    """Return the timeouts of a call: to connect, for each wait for the response, and in total."""
    return Timeouts(connect=connect, first_token=call, idle=call, total=total)


def server_of(row: Any, box: Callable[[], SecretBox]) -> McpServer:
    """Return the server of a row with all columns; `box` is called if it has headers."""
    headers: Mapping[str, str] | None = {}
    if row.headers is not None:
        try:
            headers = orjson.loads(box().decrypt(row.headers))
        except SecretUnreadable:
            headers = None
            _log.warning("the headers of the MCP server %s cannot be decrypted", row.name)
    return McpServer(
        name=row.name,
        url=row.url,
        headers=headers,
        timeouts=server_timeouts(row.connect_seconds, row.call_seconds, row.total_seconds),
        needs_approval=row.needs_approval,
        allowed={
            name: AllowedTool(allowed["hash"], bool(allowed.get("needs_approval")))
            for name, allowed in row.allowed.items()
        },
        tools=row.tools,
        protocol_version=row.protocol_version,
        revision=row.revision,
    )


class McpServers:
    """The enabled servers, by name. Thread-safe; `box` decrypts their headers."""

    def __init__(
        self, engine: Engine, box: Callable[[], SecretBox], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._box = autocommit_engine(engine), box
        self._known: Mapping[str, McpServer] = {}
        self._cache: Cache[str, tuple[McpServer, ...]] = Cache(
            "mcp_servers", lambda _: self._read(), POLICY, clock=clock
        )

    def enabled(self) -> tuple[McpServer, ...]:
        """Return the enabled servers by name, cached. Waits for the database for a second at most; never raises."""
        try:
            return self._cache.get("all")
        except ParleyError:
            return ()

    def _read(self) -> tuple[McpServer, ...]:
        """Return the enabled servers; only those whose revision has changed are read. Raises `DatabaseUnavailable`."""
        try:
            with self._engine.connect() as connection:
                revisions = {row.name: row.revision for row in sql.REVISIONS.all(connection, {})}
                known = {name: server for name, server in self._known.items() if revisions.get(name) == server.revision}
                changed = sorted(revisions.keys() - known.keys())
                rows = sql.NAMED.all(connection, {"names": changed}) if changed else ()
        except SQLAlchemyError as error:
            raise DatabaseUnavailable(f"The MCP servers could not be read: {type(error).__name__}.") from None
        known |= {row.name: server_of(row, self._box) for row in rows if row.enabled}
        self._known = known
        return tuple(known[name] for name in sorted(known))
