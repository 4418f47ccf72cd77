"""PostgreSQL settings with the place where each was set, and the statement that gives it another value there."""

from dataclasses import dataclass

from sqlalchemy import Connection

from app.repositories.statement import Statement

# `reset_val` is the value at the start of each session of this role, as opposed to what this session has set.
VALUES = Statement(
    "ops.setting_sources",
    """
SELECT s.name, s.reset_val AS value, s.unit, s.boot_val AS default, s.source, s.context,
       quote_ident(session_user) AS role, quote_ident(current_database()) AS database
  FROM pg_settings s WHERE s.name = ANY (%(names)s) ORDER BY s.name""",
)
COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class SettingValue:
    """The value of a setting, in `unit`, for new sessions of a role. `source` is where PostgreSQL found it."""

    name: str
    value: str
    unit: str | None
    default: str
    source: str
    role: str
    database: str
    needs_restart: bool

    def change(self, value: str) -> str | None:
        """Return the SQL that sets it to `value`, or resets it where the most specific value is.

        Returns None for a value of the command line or of the client, which SQL cannot change.
        """
        if self.source in (COMMAND_LINE, "client"):
            return None
        scope = {
            "global": "ROLE ALL",
            "database": f"DATABASE {self.database}",
            "user": f"ROLE {self.role}",
            "database user": f"ROLE {self.role} IN DATABASE {self.database}",
        }.get(self.source)
        if scope:
            return f"ALTER {scope} RESET {self.name};"
        return f"ALTER SYSTEM SET {self.name} = {value};\nSELECT pg_reload_conf();"

    def remedy(self, action: str) -> str:
        """Return `action` with what else the change needs."""
        if self.source == COMMAND_LINE:
            return f"{action}: change the command line that starts PostgreSQL, and restart it"
        if self.source == "client":
            return f"{action}: remove it from the options of the database's URL"
        return f"{action}, and restart PostgreSQL" if self.needs_restart else f"{action}; it applies to new connections"


def read_settings(connection: Connection, names: list[str]) -> list[SettingValue]:
    """Read the settings with these names that the server has."""
    return [
        SettingValue(
            row.name,
            row.value,
            row.unit,
            row.default,
            row.source,
            row.role,
            row.database,
            needs_restart=row.context == "postmaster",
        )
        for row in VALUES.all(connection, {"names": names})
    ]
