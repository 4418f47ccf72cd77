"""The normal form of each email address, and a unique index on it.

Addresses that differ only by case, compatibility characters or invisible characters have the same normal form. If
several accounts share one, the account that is spelled like it keeps it, else the oldest. The others get their address
as it is spelled, so that each of them can still log in with its own spelling. Their ids are logged; none is changed
otherwise.

Locks: none that block a login; rows are written in batches, and the index is built concurrently. The migration can be
repeated after an interruption.
"""

import logging
import unicodedata
from itertools import groupby

import regex
import sqlalchemy as sa
from alembic import context, op

revision = "0018"
down_revision = "0017"

BATCH = 1000  # rows
LONGEST = 254  # characters

_log = logging.getLogger("alembic.runtime.migration")
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}]")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("uq_users_email_key", "users", postgresql_concurrently=True, if_exists=True)
        if not context.is_offline_mode():
            _fill(op.get_bind())
        op.create_index("uq_users_email_key", "users", ["email_key"], unique=True, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("uq_users_email_key", "users", postgresql_concurrently=True, if_exists=True)


def _fill(connection: sa.Connection) -> None:
    page = sa.text(
        "SELECT id, email FROM users WHERE CAST(:after AS uuid) IS NULL OR id > :after ORDER BY id LIMIT :limit"
    )
    update = sa.text("UPDATE users SET email_key = :key WHERE id = :id")
    after = None
    while rows := connection.execute(page, {"after": after, "limit": BATCH}).all():
        connection.execute(update, [{"id": row.id, "key": _key(row.email) or row.email} for row in rows])
        after = rows[-1].id
    shared = connection.execute(
        sa.text(
            "SELECT id, email, email_key FROM users WHERE email_key IN"
            " (SELECT email_key FROM users GROUP BY email_key HAVING count(*) > 1)"
            " ORDER BY email_key, email = email_key DESC, id"
        )
    ).all()
    for _, group in groupby(shared, key=lambda row: row.email_key):
        first, *others = group
        connection.execute(update, [{"id": row.id, "key": row.email} for row in others])
        _log.warning(
            "the accounts %s have addresses that look alike; each can log in with its own spelling only, none was "
            "merged: decide which one to keep (`flask ops user show ID`)",
            ", ".join(str(row.id) for row in (first, *others)),
        )


def _key(email: str) -> str | None:
    """Return the normal form, as the application computed it at this revision, or None if it is too long or empty."""
    previous = None
    while email != previous:
        previous = email
        email = _INVISIBLE.sub("", unicodedata.normalize("NFKC", email).casefold()).strip()
    return email if 0 < len(email) <= LONGEST else None
