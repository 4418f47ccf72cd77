"""Protection of admins: an operator changes nothing that belongs to an admin."""

from uuid import UUID

from app.api.access import caller
from app.database import autocommit
from app.enums import UserRole
from app.errors import PermissionDenied
from app.repositories import archives, legal_holds, user_admin


def refuse_change_of_admin(user_id: UUID) -> None:
    """Raise `PermissionDenied` if the user is an admin and the caller is not. An unknown user is not refused here."""
    if caller().role == UserRole.ADMIN:
        return
    with autocommit() as connection:
        row = user_admin.ROLE.one(connection, {"user_id": user_id})
    if row is not None and row.role == UserRole.ADMIN:
        raise PermissionDenied("Only an admin can change an admin.")


def refuse_change_of_admins_conversation(conversation_id: UUID) -> None:
    """Do the same for the owner of a conversation. An unknown conversation is not refused here."""
    with autocommit() as connection:
        owner = archives.OWNER.one(connection, {"conversation_id": conversation_id})
    if owner is not None:
        refuse_change_of_admin(owner.user_id)


def refuse_change_of_admins_hold(hold_id: UUID) -> None:
    """Do the same for the owner of a held conversation. An unknown hold is not refused here."""
    with autocommit() as connection:
        owner = legal_holds.OWNER.one(connection, {"hold_id": hold_id})
    if owner is not None:
        refuse_change_of_admin(owner.user_id)
