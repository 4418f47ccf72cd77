from typing import Any

from marshmallow import fields, validate

from app.api.openapi.names import ENUMERATION
from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import PlainText, Schema
from app.container import current_settings
from app.enums import FileTextFailure, ProviderFileState
from app.services.file_text_views import STATES, text_view

FILES = Pages("files.1", lambda item: (item.id,), IDENTIFIER)


class ProviderFileSchema(Schema):
    provider = fields.String(metadata={"description": "Name of the provider."})
    state = fields.String(
        validate=validate.OneOf(list(ProviderFileState)),
        metadata={
            "description": "`removing`: the copy is not wanted any more, and is being deleted at the provider.",
            ENUMERATION: "ProviderFileState",
        },
    )
    reason = fields.String(
        allow_none=True, metadata={"description": "Why the last attempt to upload the copy failed; null if none did."}
    )


class FileTextSchema(Schema):
    state = fields.String(
        validate=validate.OneOf(STATES),
        metadata={
            "description": "pending until a job has read the file; none if the file has no text, as an image, or if"
            " texts are not extracted."
        },
    )
    reason = fields.String(
        validate=validate.OneOf(list(FileTextFailure)),
        allow_none=True,
        metadata={"description": "Why the text could not be extracted; null unless it failed."},
    )
    message = fields.String(allow_none=True, metadata={"description": "The reason in a sentence; null without one."})
    characters = fields.Integer(metadata={"description": "Characters of the text; 0 for a scan without text."})
    truncated = fields.Boolean(metadata={"description": "Whether the file has more text than is used."})


class _TextOfFile(fields.Nested):
    """The text of a file, with the settings of the application."""

    # The base class differs from its own base class in the same way.
    def _serialize(self, nested_obj: Any, attr: Any, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        view = text_view(nested_obj, is_extracted=current_settings().files.extract)
        return super()._serialize(view, attr, obj, **kwargs)  # type: ignore[no-untyped-call]


class FileSchema(Schema):
    id = fields.UUID()
    project_id = fields.UUID(allow_none=True, metadata={"description": "Project of the file; null for none."})
    name = fields.String(metadata={"description": "Name of the file, without a path."})
    media_type = fields.String(
        metadata={"description": "Media type, found from the content; for text, the name's extension decides."}
    )
    bytes = fields.Integer(metadata={"description": "Size of the content."})
    sha256 = fields.String(metadata={"description": "SHA-256 of the content, in hexadecimal."})
    provider_files = fields.List(
        fields.Nested(ProviderFileSchema),
        metadata={"description": "Copies at providers; projects opt into them."},
    )
    text = _TextOfFile(FileTextSchema, metadata={"description": "State of the text that is extracted from the file."})
    created_at = fields.AwareDateTime()


class FileQuery(PageQuery):
    project_id = fields.UUID(load_default=None, metadata={"description": "Only files of this project."})
    after = Cursor(FILES)


class ProjectFileQuery(PageQuery):
    after = Cursor(FILES)


class FileUploadQuery(Schema):
    name = PlainText(
        max_length=255, required=True, metadata={"description": "Name of the file, 1 to 255 characters, no path."}
    )


FilePage = page_of(FileSchema)
