"""SQL of the MCP servers that operators register: a few rows, which are read when their revision has changed."""

from app.repositories.statement import Statement

_COLUMNS = """name, url, enabled, needs_approval, header_names, headers, connect_seconds, call_seconds, total_seconds,
       allowed, tools, tools_hash, tools_ttl_seconds, listed_at, protocol_version, checked_at, error, revision,
       created_at, updated_at, updated_by"""
_CHANGED = "revision = %(revision)s, updated_by = %(by)s, updated_at = greatest(updated_at, now())"

REVISIONS = Statement("mcp_servers.revisions", "SELECT name, revision FROM mcp_servers WHERE enabled ORDER BY name")

NAMED = Statement("mcp_servers.named", f"SELECT {_COLUMNS} FROM mcp_servers WHERE name = ANY(%(names)s)")

ALL = Statement("mcp_servers.all", f"SELECT {_COLUMNS} FROM mcp_servers ORDER BY name")

ADD = Statement(
    "mcp_servers.add",
    """
INSERT INTO mcp_servers (name, url, enabled, needs_approval, header_names, headers, connect_seconds, call_seconds,
                         total_seconds, revision, updated_by)
SELECT %(name)s, %(url)s, %(enabled)s, %(needs_approval)s, %(header_names)s, %(headers)s, %(connect)s, %(call)s,
       %(total)s, %(revision)s, %(by)s
 WHERE (SELECT count(*) FROM mcp_servers) < %(max_servers)s
    ON CONFLICT (name) DO NOTHING
RETURNING name""",
)

SET_ENABLED = Statement(
    "mcp_servers.set_enabled",
    f"UPDATE mcp_servers SET enabled = %(enabled)s, {_CHANGED} WHERE name = %(name)s RETURNING name",
)

# The tools of `add` replace what is allowed of the same names; those of `remove` are no longer allowed.
ALLOW = Statement(
    "mcp_servers.allow",
    f"""
UPDATE mcp_servers SET allowed = (allowed - %(remove)s::text[]) || %(add)s::jsonb, {_CHANGED}
 WHERE name = %(name)s RETURNING allowed""",
)

REMOVE = Statement("mcp_servers.remove", "DELETE FROM mcp_servers WHERE name = %(name)s RETURNING name")

DUE = Statement(
    "mcp_servers.due",
    """
SELECT name FROM mcp_servers
 WHERE enabled AND (checked_at IS NULL OR checked_at <= now() - make_interval(
           secs => CASE WHEN error IS NULL THEN tools_ttl_seconds ELSE %(retry)s END))
 ORDER BY checked_at NULLS FIRST, name""",
)

# A list of an address that is no longer the server's is dropped. The revision changes only with the list.
LISTED = Statement(
    "mcp_servers.listed",
    """
UPDATE mcp_servers
   SET tools = %(tools)s::jsonb, tools_hash = %(hash)s, tools_ttl_seconds = %(ttl)s,
       protocol_version = %(version)s, listed_at = now(), checked_at = now(), error = NULL,
       revision = CASE WHEN tools_hash IS DISTINCT FROM %(hash)s OR protocol_version IS DISTINCT FROM %(version)s
                       THEN %(revision)s ELSE revision END
 WHERE name = %(name)s AND url = %(url)s RETURNING name""",
)

FAILED = Statement(
    "mcp_servers.failed",
    "UPDATE mcp_servers SET checked_at = now(), error = %(error)s WHERE name = %(name)s AND url = %(url)s"
    " RETURNING name",
)

SECRETS = Statement(
    "mcp_servers.secrets", "SELECT name, headers FROM mcp_servers WHERE headers IS NOT NULL ORDER BY name"
)

# Not if an operator has replaced it since.
RE_ENCRYPT = Statement(
    "mcp_servers.re_encrypt",
    "UPDATE mcp_servers SET headers = %(new)s, revision = %(revision)s WHERE name = %(name)s AND headers = %(old)s"
    " RETURNING name",
)
