from marshmallow import fields

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Schema

SESSIONS = Pages("sessions.1", lambda item: (item.id,), IDENTIFIER)


class SessionSchema(Schema):
    id = fields.UUID()
    created_at = fields.AwareDateTime(metadata={"description": "Time of the login."})
    refreshed_at = fields.AwareDateTime(metadata={"description": "Time of the last refresh, or of the login."})
    expires_at = fields.AwareDateTime(metadata={"description": "Time at which it ends without a refresh."})
    user_agent = fields.String(allow_none=True, metadata={"description": "`User-Agent` header of the login."})
    address = fields.String(allow_none=True, metadata={"description": "IP address of the login."})
    is_current = fields.Boolean(metadata={"description": "Whether it is the session of this request."})


class SessionQuery(PageQuery):
    after = Cursor(SESSIONS)


SessionPage = page_of(SessionSchema)
