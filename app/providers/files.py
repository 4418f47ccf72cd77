"""The Files API of a provider, by OpenAI's own package. Jobs use it; a web worker does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from app.errors import ProviderTimedOut
from app.outbound.errors import OutboundError
from app.providers.configured import ConfiguredProvider
from app.providers.failures import ErrorTranslator
from app.providers.official import new_client

if TYPE_CHECKING:
    from openai.types import FileObject

PURPOSE: Final = "user_data"
WAIT_SECONDS: Final = 60.0  # at most, for each wait on the network
PAGE: Final = 1000
MAX_LISTED: Final = 10_000_000  # files of an account; a server that repeats itself is not read forever
ID_CHARS: Final = 200
# Of this file, now and later.
_REJECTED: Final = {
    400: "The provider rejected the file.",
    413: "The file is too large for the provider.",
    415: "The provider does not accept files of this type.",
    422: "The provider rejected the file.",
}


class FileRejected(Exception):
    """The provider does not accept the file. The message is a sentence for its owner."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the operator's account at a provider."""

    id: str
    name: str
    created_at: datetime


class ProviderFilesClient:
    """The client of one provider's Files API. Close it, or use it as a context manager."""

    def __init__(self, provider: ConfiguredProvider, seconds: float) -> None:
        """Make the client. `seconds` bounds each wait on the network, and so does WAIT_SECONDS."""
        self.name, self._seconds = provider.name, min(seconds, WAIT_SECONDS)
        self._errors = ErrorTranslator(provider.name, "", provider.key or "", ())
        self._client = new_client(provider.base_url, provider.key or "", self._seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def upload(self, name: str, content: BinaryIO, media_type: str) -> str:
        """Upload a file and return the provider's id. `content` is read in pieces; what it raises is a cause.

        Raises `FileRejected` and `ProviderError`.
        """
        with self._translated(rejected=True):
            file = self._client.files.create(file=(name, content, media_type), purpose=PURPOSE)
            return self._checked_id(file)

    def exists(self, remote_id: str) -> bool:
        """Return whether the provider has the file. Raises `ProviderError`."""
        return self._found(lambda: self._client.files.retrieve(remote_id))

    def delete(self, remote_id: str) -> bool:
        """Delete a file; return false if the provider did not have it. Raises `ProviderError`."""
        return self._found(lambda: self._client.files.delete(remote_id))

    def list_files(self, *, prefix: str) -> Iterator[RemoteFile]:
        """Yield the files whose names have this prefix, the newest first. Raises `ProviderError`.

        The caller may take its time: pages are read when they are needed.
        """
        with self._translated():
            pages = self._client.files.list(purpose=PURPOSE, limit=PAGE, order="desc").iter_pages()
        listed, last = 0, ""
        while True:
            with self._translated():
                page = next(pages, None)
                files = page.data if page is not None else []
            if not files:
                return
            with self._translated():
                if self._checked_id(files[-1]) == last:
                    raise ValueError("the same page again")
                last, listed = files[-1].id, listed + len(files)
                if listed > MAX_LISTED:
                    raise ValueError("too many files")
                found = [self._remote_file(file) for file in files if str(file.filename).startswith(prefix)]
            yield from found

    def _remote_file(self, file: "FileObject") -> RemoteFile:
        return RemoteFile(self._checked_id(file), file.filename, datetime.fromtimestamp(file.created_at, UTC))

    def _checked_id(self, file: "FileObject") -> str:
        """Return the id. The package checks no types, and PostgreSQL stores no NUL."""
        remote_id = cast(object, file.id)
        if not isinstance(remote_id, str) or not 0 < len(remote_id) <= ID_CHARS or not remote_id.isprintable():
            raise ValueError("no id")
        return remote_id

    def _found(self, request: Callable[[], object]) -> bool:
        import openai

        with self._translated():
            try:
                request()
            except openai.NotFoundError:
                return False
        return True

    @contextmanager
    def _translated(self, *, rejected: bool = False) -> Iterator[None]:
        """Translate the package's errors to those of `app.errors`, which name no host and no key."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            if rejected and error.status_code in _REJECTED:
                raise FileRejected(_REJECTED[error.status_code]) from None
            if error.status_code in (404, 405):
                raise self._errors.protocol_error("has no Files API at its base URL") from None
            raise self._errors.from_status(error.status_code, error.response.headers, error.response.content) from None
        except openai.APITimeoutError:
            raise ProviderTimedOut(
                f"The provider {self.name} did not answer within {self._seconds:g} seconds."
            ) from None
        except openai.APIConnectionError as error:
            raise self._errors.from_exception(error) from None
        except OutboundError as error:
            raise self._errors.from_outbound(error) from None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError, OverflowError, OSError):
            raise self._errors.protocol_error("sent an invalid answer about a file") from None
