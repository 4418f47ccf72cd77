"""The admin API: operations over HTTP. `wsgi.py` passes these blueprints to the application.

Operators see the metadata of users' data, never its content.
"""

from app.api.blueprint import Blueprint
from ops.api import archive, audit, backups, checks, database, erasures, indexes, jobs, keys, mcp, providers, users
from ops.api.refusals import record_refusals

_BLUEPRINTS: tuple[Blueprint, ...] = (
    jobs.blueprint,
    providers.blueprint,
    mcp.blueprint,
    checks.blueprint,
    database.blueprint,
    archive.blueprint,
    backups.blueprint,
    indexes.blueprint,
    users.blueprint,
    users.admins_blueprint,
    keys.blueprint,
    erasures.blueprint,
    audit.blueprint,
)
BLUEPRINTS: tuple[Blueprint, ...] = tuple(map(record_refusals, _BLUEPRINTS))
