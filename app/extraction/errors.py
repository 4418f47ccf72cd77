"""The error of a failed extraction."""

from app.enums import FileTextFailure


class ExtractionFailed(Exception):
    """The text of a file cannot be extracted, for this reason."""

    def __init__(self, reason: FileTextFailure) -> None:
        super().__init__(reason.value)
        self.reason = reason
