"""A user of a server that `make up` runs."""

import json
import urllib.error
import urllib.request
from typing import Any


class Caller:
    """A user of the running server."""

    def __init__(self, port: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        user = {"email": "ann@example.org", "password": "a long pass phrase"}
        status, body = self.request("/api/auth/register", {**user, "name": "Ann"})
        assert status == 201, body
        status, body = self.request("/api/auth/login", user)
        assert status == 200, body
        self.token = body["access_token"]

    def request(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Return the status and the JSON body of a response; 0 if there was none."""
        headers = {"Content-Type": "application/json"}
        if token := getattr(self, "token", None):
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def chat(self) -> int:
        return self.request("/api/chat", {"message": "hello", "stream": False})[0]
