"""Storage errors.

StorageError
├── StorageUnavailable          the store cannot be reached, or refuses the request
├── FileNotFoundInStorage       the store holds no file of that name
└── StoredFileChanged           the file was replaced while it was being read
"""

from app.errors import ParleyError


class StorageError(ParleyError):
    """A failed operation on a store. `detail` is one line for an operator: what failed, where, and what to do."""

    code = "storage_failed"
    default_detail = "The storage failed."


class StorageUnavailable(StorageError):
    code = "storage_unavailable"
    default_detail = "The storage cannot be reached."


class FileNotFoundInStorage(StorageError):
    code = "stored_file_not_found"
    default_detail = "The storage holds no such file."


class StoredFileChanged(StorageError):
    code = "stored_file_changed"
    default_detail = "The stored file was replaced while it was being read."
