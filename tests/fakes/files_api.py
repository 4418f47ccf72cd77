"""The Files API of the fake upstream: files of one account, and failures to order.

with FilesUpstream() as upstream:
    upstream.account.next_uploads = [status(429)]
"""

import itertools
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream


@dataclass
class StoredUpload:
    """A file of the account."""

    id: str
    filename: str
    content: bytes
    media_type: str
    purpose: str
    created_at: int

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class FilesAccount:
    """The account: its `files` by id, and scripts that answer the next uploads, deletions or lists instead.

    The next `lose_answers` uploads are stored, and the connection breaks before the answer; after the next
    `hang_after_storing` ones there is no answer.
    """

    files: dict[str, StoredUpload] = field(default_factory=dict)
    next_uploads: list[Script] = field(default_factory=list)
    next_deletions: list[Script] = field(default_factory=list)
    next_lists: list[Script] = field(default_factory=list)
    lose_answers: int = 0
    hang_after_storing: int = 0
    uploads: int = 0
    pages: int = 0
    page_size: int = 3
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def add(self, filename: str, content: bytes = b"x", *, age: int = 0, media_type: str = "text/plain") -> str:
        """Store a file that is `age` seconds old, and return its id."""
        file_id = f"file-{next(self._numbers):04d}"
        created_at = int(time.time()) - age
        self.files[file_id] = StoredUpload(file_id, filename, content, media_type, "user_data", created_at)
        return file_id

    def age_all(self, seconds: int) -> None:
        """Make all files older."""
        for file in self.files.values():
            file.created_at -= seconds

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request to /v1/files."""
        url = urlsplit(exchange.path)
        file_id = url.path.removeprefix("/v1/files").strip("/")
        if exchange.method == "POST":
            await self._create(exchange)
        elif exchange.method == "DELETE":
            if self.next_deletions:
                await self.next_deletions.pop(0)(exchange)
            elif self.files.pop(file_id, None) is None:
                await _missing(exchange)
            else:
                await scripts.status(200, {"id": file_id, "object": "file", "deleted": True})(exchange)
        elif file_id:
            file = self.files.get(file_id)
            await (scripts.status(200, file.json())(exchange) if file else _missing(exchange))
        else:
            await self._list(exchange, parse_qs(url.query))

    async def _create(self, exchange: Exchange) -> None:
        self.uploads += 1
        if self.next_uploads:
            await self.next_uploads.pop(0)(exchange)
            return
        kind, options = parse_options_header(exchange.headers["content-type"])
        parser = FormDataParser(stream_factory=lambda *_, **__: BytesIO())  # no temporary files
        _, form, files = parser.parse(BytesIO(exchange.body), kind, len(exchange.body), options)
        upload = files["file"]
        file_id = self.add(str(upload.filename), upload.read(), media_type=str(upload.content_type))
        self.files[file_id].purpose = form["purpose"]
        if self.lose_answers:
            self.lose_answers -= 1
            exchange.connection.abort()
            return
        if self.hang_after_storing:
            self.hang_after_storing -= 1
            await exchange.pause(None)
        await scripts.status(200, self.files[file_id].json())(exchange)

    async def _list(self, exchange: Exchange, query: dict[str, list[str]]) -> None:
        self.pages += 1
        if self.next_lists:
            await self.next_lists.pop(0)(exchange)
            return
        ids = sorted(self.files, reverse=query.get("order") == ["desc"])
        if "after" in query:
            ids = ids[ids.index(query["after"][0]) + 1 :]
        page = [self.files[file_id].json() for file_id in ids[: self.page_size]]
        await scripts.status(200, {"object": "list", "data": page, "has_more": len(ids) > self.page_size})(exchange)


async def _missing(exchange: Exchange) -> None:
    error = {"error": {"message": "No such File object", "type": "invalid_request_error", "code": None}}
    await scripts.status(404, error)(exchange)


class FilesUpstream(Upstream):
    """The fake upstream with a Files API, whose state is `account`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.account = FilesAccount()
        self.script = self.models = self._route

    async def _route(self, exchange: Exchange) -> None:
        if exchange.path.startswith("/v1/files"):
            await self.account.answer(exchange)
        else:
            await scripts.status(404)(exchange)
