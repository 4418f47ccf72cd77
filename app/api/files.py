"""Files of a user, with or without a project."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import LOCATION, Blueprint
from app.api.download import ATTACHMENT
from app.api.file_download import file_response
from app.api.in_flight import hold_stream
from app.api.schemas.files import FILES, FilePage, FileQuery, FileSchema, FileUploadQuery, ProjectFileQuery
from app.api.uploads import form_file, raw_body
from app.bounds import MAX_BYTES
from app.container import services
from app.errors import (
    BodyTimeout,
    FileStoreUnavailable,
    Overloaded,
    StorageFull,
    StorageLimitReached,
    TooManyFiles,
    TooManyStreams,
    UnsupportedFile,
    UserHeld,
)
from app.models import File
from app.services import files, projects

_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "maxLength": MAX_BYTES,
                            "description": "The file.",
                        }
                    },
                },
                "example": {"file": "A heat pump moves heat."},
            }
        },
    }
}
_RAW = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": _BINARY,
                "example": "A heat pump moves heat.",
            }
        },
    }
}
_ERRORS = (BodyTimeout, UnsupportedFile, TooManyFiles, StorageLimitReached, StorageFull, FileStoreUnavailable)
_CONTENT: dict[str, Any] = {
    "schema": _BINARY,
    "content_type": "*/*",
    "description": "The content, whole or a range, with the media type of the file. HTML is sent without its type.",
    "headers": ATTACHMENT,
}

blueprint = Blueprint(
    "files",
    __name__,
    url_prefix="/api/files",
    access=Access.USER,
    uploads=True,
    description="Files, which are stored once for each content",
)
project_blueprint = Blueprint(
    "project_files",
    __name__,
    url_prefix="/api/projects/<uuid:project_id>/files",
    access=Access.USER,
    uploads=True,
    description="The files of a project",
)


@blueprint.route("")
class Files(MethodView):
    @blueprint.arguments(FileQuery, location="query")
    @blueprint.response(200, FilePage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List files, newest first."""
        return FILES.envelope(files.page(caller().user_id, **query), query["limit"])

    @blueprint.doc(**_FORM)
    @blueprint.response(201, FileSchema, headers=LOCATION)
    @blueprint.raises(*_ERRORS)
    def post(self) -> tuple[File, int, dict[str, str]]:
        """Upload a file as a form. A repeated upload is a second file with the same content."""
        return _posted(None)

    @blueprint.doc(**_RAW)
    @blueprint.arguments(FileUploadQuery, location="query")
    @blueprint.response(200, FileSchema)
    @blueprint.alt_response(201, schema=FileSchema, description="The file is new.", headers=LOCATION)
    @blueprint.raises(*_ERRORS)
    def put(self, query: dict[str, Any]) -> tuple[File, int, dict[str, str]]:
        """Upload a file as the body. Can be repeated: the same content with the same name is one file."""
        return _put(None, query["name"])


@project_blueprint.route("")
class ProjectFiles(MethodView):
    @project_blueprint.arguments(ProjectFileQuery, location="query")
    @project_blueprint.response(200, FilePage)
    def get(self, query: dict[str, Any], project_id: UUID) -> dict[str, Any]:
        """List the files of a project, newest first."""
        _check_project(project_id)
        return FILES.envelope(files.page(caller().user_id, project_id=project_id, **query), query["limit"])

    @project_blueprint.doc(**_FORM)
    @project_blueprint.response(201, FileSchema, headers=LOCATION)
    @project_blueprint.raises(*_ERRORS)
    def post(self, project_id: UUID) -> tuple[File, int, dict[str, str]]:
        """Upload a file of a project as a form. A repeated upload is a second file with the same content."""
        return _posted(project_id)

    @project_blueprint.doc(**_RAW)
    @project_blueprint.arguments(FileUploadQuery, location="query")
    @project_blueprint.response(200, FileSchema)
    @project_blueprint.alt_response(201, schema=FileSchema, description="The file is new.", headers=LOCATION)
    @project_blueprint.raises(*_ERRORS)
    def put(self, query: dict[str, Any], project_id: UUID) -> tuple[File, int, dict[str, str]]:
        """Upload a file of a project as the body. Can be repeated: the same content with the same name is one file."""
        return _put(project_id, query["name"])


@blueprint.route("/<uuid:file_id>")
class OneFile(MethodView):
    @blueprint.response(200, FileSchema)
    def get(self, file_id: UUID) -> File:
        """Get a file without its content."""
        return files.get(caller().user_id, file_id)[0]

    @blueprint.response(204)
    @blueprint.raises(UserHeld)
    def delete(self, file_id: UUID) -> None:
        """Delete a file permanently."""
        files.delete(caller().user_id, file_id)


@blueprint.route("/<uuid:file_id>/content")
@blueprint.response(200, **_CONTENT)
@blueprint.alt_response(206, **{**_CONTENT, "description": "The range of the content that `Range` asks for."})
@blueprint.raises(FileStoreUnavailable, TooManyStreams, Overloaded)
def content(file_id: UUID) -> Response:
    """Download the content of a file, or one range of it."""
    file, object_ = files.get(caller().user_id, file_id)
    hold_stream()
    return file_response(services().uploads.store, object_, file)


def _posted(project_id: UUID | None) -> tuple[File, int, dict[str, str]]:
    _check_project(project_id)
    name, chunks = form_file()
    return _received(chunks, name, project_id)


def _put(project_id: UUID | None, name: str) -> tuple[File, int, dict[str, str]]:
    _check_project(project_id)
    return _received(raw_body(), name, project_id, once=True)


def _check_project(project_id: UUID | None) -> None:
    """Raise `NotFound` for an unknown project before the body, which may be large, is read."""
    if project_id is not None:
        projects.get(caller().user_id, project_id)


def _received(
    chunks: Iterator[bytes], name: str, project_id: UUID | None, *, once: bool = False
) -> tuple[File, int, dict[str, str]]:
    file, is_new = services().uploads.receive(
        caller().user_id,
        chunks,
        name=name,
        project_id=project_id,
        expected=request.content_length or 0,
        once=once,
    )
    return file, 201 if is_new else 200, {"Location": url_for("files.OneFile", file_id=file.id)}
