"""The admin API: the functions of operations over HTTP. `wsgi.py` hands these blueprints to the application.

An operator sees what there is of people's data, and never what it says.
"""

from app.api.blueprint import Blueprint
from ops.api import archive, audit, backups, checks, database, erasures, indexes, jobs, keys, providers, users

BLUEPRINTS: tuple[Blueprint, ...] = (
    jobs.blueprint,
    providers.blueprint,
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
