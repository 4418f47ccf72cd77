"""SQL fragments that compare a conversation with its search row."""

RULES = 1  # version of the word rules (app/services/search_words.py); documents that other rules wrote are stale

# Whether the search row `s` (nulls if there is none) differs from what the conversation `c` holds.
STALE_DOCUMENT = f"""(s.user_id IS NULL OR s.indexed_title IS DISTINCT FROM c.title OR s.rules <> {RULES}
             OR s.indexed_position < c.next_position - 1)"""
SEARCH_ROW = """SELECT user_id, indexed_title, indexed_position, rules FROM conversation_search
                 WHERE user_id = c.user_id AND conversation_id = c.id LIMIT 1"""
