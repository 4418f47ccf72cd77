"""The INSERT of messages that all writers share."""


def insert_messages(
    source: str,
    *,
    user_id: str,
    conversation_id: str,
    position: str,
    role: str = "item.role",
    content: str = "item.content",
    tool_calls: str = "item.tool_calls",
    tool_call_id: str = "item.tool_call_id",
    metadata: str = "item.metadata",
    turn_id: str = "NULL::uuid",
    created_at: str = "now()",
) -> str:
    """Return the INSERT of messages from `source`, a FROM list; the other arguments are SQL expressions over it."""
    return f"""
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          turn_id, created_at)
    SELECT {user_id}, {conversation_id}, {position}, {role}, {content},
           {tool_calls}, {tool_call_id}, {metadata}, {turn_id}, {created_at}
      FROM {source}"""
