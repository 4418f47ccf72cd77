"""SQL of the messages of a project, over all its conversations."""

from app.repositories.statement import Statement


def _page(name: str, order: str, after: str) -> Statement:
    """Return the statement of one direction: `order` is ASC or DESC, `after` is > or <.

    The first %(limit)s conversations that have messages are enough to fill a page. A bundled conversation is one row
    without a message, because its messages are in its bundle.
    """
    return Statement(
        name,
        f"""
WITH page AS (
    SELECT c.user_id, c.id, c.storage, c.message_count FROM conversations AS c
     WHERE c.user_id = %(user_id)s AND c.project_id = %(project_id)s AND c.message_count > 0
       AND (%(conversation_id)s::uuid IS NULL OR c.id {after}= %(conversation_id)s)
     ORDER BY c.id {order} LIMIT %(limit)s)
SELECT page.id AS conversation_id, page.storage, page.message_count, m.position, m.role, m.content, m.tool_calls,
       m.tool_call_id, m.metadata, m.turn_id, m.created_at
  FROM page LEFT JOIN LATERAL (
       SELECT * FROM messages AS m
        WHERE m.user_id = page.user_id AND m.conversation_id = page.id
          AND (page.id IS DISTINCT FROM %(conversation_id)s OR m.position {after} %(position)s)
        ORDER BY m.position {order} LIMIT %(limit)s) AS m ON page.storage = 'live'
 ORDER BY page.id {order}, m.position {order} LIMIT %(limit)s""",  # constants
        index="ix_conversations_project",
    )


PAGES = {
    "asc": _page("projects.messages", "ASC", ">"),
    "desc": _page("projects.messages_desc", "DESC", "<"),
}
