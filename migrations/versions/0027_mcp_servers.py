"""MCP servers as sources of tools. Locks: none but that of a new table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "mcp_servers",
        sa.Column("name", sa.String(length=24), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("header_names", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("headers", sa.Text(), nullable=True),
        sa.Column("connect_seconds", sa.Float(), nullable=False),
        sa.Column("call_seconds", sa.Float(), nullable=False),
        sa.Column("total_seconds", sa.Float(), nullable=False),
        sa.Column("allowed", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("tools", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("tools_hash", sa.String(length=64), nullable=True),
        sa.Column("tools_ttl_seconds", sa.Integer(), server_default=sa.text("300"), nullable=False),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("protocol_version", sa.String(length=20), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.String(length=1000), nullable=True),
        sa.Column("revision", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_by", sa.String(length=255), nullable=False),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9-]*$'", name=op.f("ck_mcp_servers_name")),
        sa.CheckConstraint(
            "connect_seconds > 0 AND call_seconds > 0 AND total_seconds > 0", name=op.f("ck_mcp_servers_seconds")
        ),
        sa.CheckConstraint(
            "jsonb_typeof(allowed) = 'object' AND jsonb_typeof(tools) = 'array'", name=op.f("ck_mcp_servers_json")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_mcp_servers")),
    )


def downgrade() -> None:
    op.drop_table("mcp_servers")
