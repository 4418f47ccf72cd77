"""What a person who has just started Parley wants to know."""

TEXT = """
Parley is running at {url} (Ctrl-C stops it).

Lines to paste into another terminal: register, chat, and read the conversation back.

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


def welcome(url: str) -> str:
    """The address, and shell lines that work as they are, any number of times."""
    return TEXT.format(url=url)
