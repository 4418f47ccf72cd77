"""The text that `make up` prints after the start."""

TEXT = """
Parley is running at {url} after {seconds:.0f} s (Ctrl-C stops it).

To try it, paste these lines into another terminal. They register, chat, and read the conversation.

URL={url}
TOKEN=$(curl -sS $URL/api/auth/register -H 'Content-Type: application/json' \\
  -d '{{"email":"you-'$(date +%s)'@example.com","password":"a long password","name":"You"}}' |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
CHAT=$(curl -sS $URL/api/chat -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{{"message":"Hello! What can you do?"}}')
printf '%s\\n' "$CHAT"
ID=$(printf '%s' "$CHAT" | python3 -c 'import json, sys; print(json.load(sys.stdin)["conversation"]["id"])')
curl -sS $URL/api/conversations/$ID/messages -H "Authorization: Bearer $TOKEN"
"""


def welcome(url: str, *, seconds: float) -> str:
    """Return the text with the URL, the duration of the start, and shell commands that can be pasted repeatedly."""
    return TEXT.format(url=url, seconds=seconds)
