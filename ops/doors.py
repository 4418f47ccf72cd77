"""The two doors of operations: for each command of `flask ops`, the requests of the admin API that do the same.

Both call one function. A command without a request says why; every request of the admin API stands with its command.
What takes long is left to a worker over HTTP, as the job that is named.
"""

from collections.abc import Mapping

ADMIN = "/api/admin"
_JOB = "POST /jobs/{}/runs"

# Below `ADMIN`.
REQUESTS: Mapping[str, tuple[str, ...]] = {
    "archive hold add": ("POST /archive/holds",),
    "archive hold list": ("GET /archive/holds",),
    "archive hold remove": ("DELETE /archive/holds/{hold_id}",),
    "archive plan": ("GET /archive/plan",),
    "archive restore": (
        "POST /archive/runs/{run_id}/undo",
        "POST /archive/conversations/{conversation_id}/restore",
        "POST /archive/accounts/{account_id}/restore",
    ),
    "archive run": (_JOB.format("archive.run"),),
    "archive status": ("GET /archive/status", "GET /archive/runs"),
    "archive verify": (_JOB.format("archive.verify"),),
    "audit": ("GET /audit",),
    "backup create": (_JOB.format("backups.daily"),),
    "backup drill": ("POST /backups/drill",),
    "backup list": ("GET /backups",),
    "backup prune": ("POST /backups/prune",),
    "backup verify": ("POST /backups/verify",),
    "doctor": ("GET /checks", _JOB.format("doctor.examine")),
    "growth": ("GET /database/growth",),
    "index apply": ("POST /indexes/apply",),
    "index check": (_JOB.format("doctor.examine_thoroughly"),),
    "index plan": ("GET /indexes/plan", _JOB.format("indexes.plan")),
    "jobs history": ("GET /jobs/runs",),
    "jobs list": ("GET /jobs",),
    "jobs run": ("POST /jobs/{job_name}/runs",),
    "jobs show": ("GET /jobs/runs/{run_id}",),
    "key list": ("GET /users/{account_id}/keys",),
    "key revoke": ("DELETE /users/{account_id}/keys/{key_id}",),
    "locks": ("GET /database/locks",),
    "pool": ("GET /database/pool",),
    "provider list": ("GET /providers",),
    "provider reset": ("DELETE /providers/choice",),
    "provider test": ("POST /providers/{provider}/test",),
    "provider use": ("PUT /providers/choice",),
    "routine": tuple(_JOB.format(f"duties.{duty}") for duty in ("daily", "weekly", "monthly")),
    "slow": ("GET /database/slow",),
    "user create": ("POST /users",),
    "user disable": ("POST /users/{account_id}/disable",),
    "user enable": ("POST /users/{account_id}/enable",),
    "user erase": ("POST /users/{account_id}/erase",),
    "user erasures": ("GET /erasures",),
    "user export": ("POST /users/{account_id}/export",),
    "user list": ("GET /users",),
    "user logout": ("POST /users/{account_id}/logout",),
    "user promote": ("PUT /users/{account_id}/role",),
    "user quota": ("GET /users/{account_id}/quota", "PUT /users/{account_id}/quota"),
    "user read": ("POST /users/{account_id}/conversations/{conversation_id}/read",),
    "user show": ("GET /users/{account_id}",),
}

# The reasons of commands that no request does.
COMMAND_ONLY: Mapping[str, str] = {
    "backup restore": "it makes databases, on whatever server is named",
    "backup switch": "it takes the database away from under the servers, which are stopped for it",
    "seed": "it makes accounts that nobody has, to try Parley at a size",
}
