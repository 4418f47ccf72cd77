"""Upper bounds of numbers and texts that reach a column, an interval or a timer.

Settings, requests, commands and models share them.
"""

INTEGER_MAX = 2**31 - 1  # PostgreSQL's integer
MAX_DAYS = 36_500  # `now()` minus this many days is still a valid timestamp, in PostgreSQL and in Python
MAX_HOURS = 24 * 366
MAX_SECONDS = 86_400  # for timeouts and waits
MAX_MILLISECONDS = 1000 * MAX_SECONDS
MAX_COUNT = 1_000_000  # for rates, queues and pools
MAX_TEXT = 10_000_000  # characters
MAX_OUTPUT_TOKENS = 1_000_000  # of one answer
MAX_HISTORY_MESSAGES = 500  # of one request to a provider
MAX_BYTES = 10**15  # stored by a user or in the database; exact in JSON
MAX_TOKENS_PER_DAY = 10**15  # of one user; exact in JSON, and sums of it fit a bigint

# Characters of texts in columns.
EMAIL_LIMIT = 254  # RFC 5321 allows no longer address in a command
MODEL_LIMIT = 200
FINISH_REASON_LIMIT = 50
SEARCH_LIMIT = 200  # a query
PROMPT_LIMIT = 50_000  # content of a prompt
USER_CONTENT_LIMIT = 10_000  # a user's message
ANSWER_CONTENT_LIMIT = 1_000_000  # all other messages; a longer answer is cut and marked
MIN_REASON_LENGTH, REASON_LIMIT = 10, 1000  # of a reason that an operator gives
AUDIT_REASON_LIMIT = 2000
JOB_REASON_LIMIT = 2000
FINDING_OBJECT_LIMIT = 500

# MCP servers that operators register.
MCP_SERVER_NAME_LIMIT = 24
MCP_URL_LIMIT = 2000
MCP_ERROR_LIMIT = 1000
