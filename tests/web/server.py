"""A server that runs from its creation to the end of a `with` block."""

from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.live_server import LiveServer


class WebServer(LiveServer):
    """Gunicorn with its files in `home`. `settings` are environment variables, DATABASE_URL among them."""

    def __init__(self, home: Path, *, DATABASE_URL: str, **settings: str) -> None:  # noqa: N803  # as the variable
        super().__init__(home, DATABASE_URL, **{"PARLEY_HOME": str(home), **settings})
        self.launch()

    def __enter__(self) -> Self:
        try:
            self.wait_for_health()
        except BaseException:
            self.close()  # else the process stays, and a later test gets the warning about it
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
