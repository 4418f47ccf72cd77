from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, DateTime, Float, Integer, String, Text, Uuid, false, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import MCP_ERROR_LIMIT, MCP_SERVER_NAME_LIMIT, MCP_URL_LIMIT
from app.extensions import Base
from app.ids import new_id
from app.models.columns import CreatedAt, UpdatedAt


class McpServer(Base):
    """An MCP server that operators registered as a source of tools.

    `headers` are sent with each request: JSON, encrypted. `tools` are the definitions as the server listed them last,
    cleaned. `allowed` are the tools that turns may call: by name, the hash of the definition that the operator saw, and
    whether each call needs the user's approval. `revision` changes with everything that web workers read.
    """

    __tablename__ = "mcp_servers"

    name: Mapped[str] = mapped_column(String(MCP_SERVER_NAME_LIMIT), primary_key=True)
    url: Mapped[str] = mapped_column(String(MCP_URL_LIMIT))
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    needs_approval: Mapped[bool] = mapped_column(Boolean, server_default=false())
    header_names: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    headers: Mapped[str | None] = mapped_column(Text)
    connect_seconds: Mapped[float] = mapped_column(Float)
    call_seconds: Mapped[float] = mapped_column(Float)
    total_seconds: Mapped[float] = mapped_column(Float)
    allowed: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    tools: Mapped[Any] = mapped_column(JSONB, server_default=text("'[]'"))
    tools_hash: Mapped[str | None] = mapped_column(String(64))
    tools_ttl_seconds: Mapped[int] = mapped_column(Integer, server_default=text("300"))
    listed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    protocol_version: Mapped[str | None] = mapped_column(String(20))
    checked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[str | None] = mapped_column(String(MCP_ERROR_LIMIT))  # of the last check; None if it succeeded
    revision: Mapped[UUID] = mapped_column(Uuid, default=new_id)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    updated_by: Mapped[str] = mapped_column(String(255))

    __table_args__ = (
        CheckConstraint("name ~ '^[a-z][a-z0-9-]*$'", name="name"),
        CheckConstraint(  # with the types that PostgreSQL adds: `tables.constraints` compares them
            "connect_seconds > 0::double precision AND call_seconds > 0::double precision"
            " AND total_seconds > 0::double precision",
            name="seconds",
        ),
        CheckConstraint("jsonb_typeof(allowed) = 'object' AND jsonb_typeof(tools) = 'array'", name="json"),
    )
