"""Every command and every query of the runbooks is run on a prepared installation."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import Result
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from app.config import Settings
from app.extensions import db
from ops.cli.exit_codes import UNKNOWN
from tests.bundling import archive_all, make_idle, numbered_messages
from tests.contracts.test_documented_commands import COMMAND, END, GROUPS
from tests.factories import insert_user
from tests.fakes.mcp import ScriptedMcp, tool
from tests.fakes.upstream import Upstream
from tests.ops.doctor.conftest import DoctorInstall, open_install
from tests.ops.installation import run_sql
from tests.ops.mcp.conftest import mcp_url

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"
PLACEHOLDER = re.compile(r"\b(?:ID_OR_EMAIL|ID|USER|RUN|NAME|TOOL|URL|N)\b")
# Arguments of commands that a page names without them.
ARGUMENTS = {
    "db downgrade": "--sql head:-1",
    "ops backup restore": "NAME --into only_named",
    "ops backup switch": "NAME",
    "ops index apply": "--plan plan.json --now --assume-disk 20GB --dry-run",
    "ops jobs run": "sessions.purge_expired",
    "ops user erase": "ID --reason 'only named' --dry-run",
}
# The order of commands that need what others leave, or take it away.
FIRST = ("ops archive run --resume", "ops index plan --only", "ops mcp add")
LAST = ("ops mcp disable", "ops mcp remove", "ops user erase ID --reason 'requested", "ops backup switch")
# Commands whose exit code reports the state of the installation, critical included.
REPORTS = ("ops doctor", "ops index", "ops routine", "ops locks", "ops backup status", "ops backup list", "ops slow")
SWITCH = "ops backup switch"  # needs a database without sessions, and replaces it
PLACEHOLDERS_OF_SQL = {
    "(PID)": "(0)",
    "'NAME'": "current_database()",
    "'...'": "'x'",
    "'name'": "'pg_class_oid_index'",
}
MARK = "IS 'Parley restore of x, begun at 2026-11-22 10:00:00Z'"
SQL = re.compile(r"^ *```sql\n(.*?)```", re.DOTALL | re.MULTILINE)
QUOTED_SQL = re.compile(r"`((?:SELECT|SHOW) [^`]*)`")


def runbook_commands() -> list[str]:
    """Return the commands of all pages, without `flask`, in the order in which they are run."""
    found = {
        f"{match[1]}{END.split(match[2], maxsplit=1)[0]}".strip()
        for page in RUNBOOKS.glob("*.md")
        for match in COMMAND.finditer(page.read_text())
    }
    return sorted(found, key=lambda line: (not line.startswith(FIRST), line.startswith(LAST), line == SWITCH, line))


def runbook_queries() -> list[str]:
    """Return the queries of all pages; commands of psql and statements that change something are left out."""
    texts = [page.read_text() for page in RUNBOOKS.glob("*.md")]
    blocks = [re.sub(r"--.*", "", block) for text in texts for block in SQL.findall(text)]
    quoted = [quoted for text in texts for quoted in QUOTED_SQL.findall(text)]
    statements = {" ".join(part.split()) for block in [*blocks, *quoted] for part in block.split(";")}
    return sorted(
        part for part in statements if re.match("SELECT|SHOW", part) and not re.search("terminate|drop", part)
    )


@dataclass
class Prepared:
    """An installation, the objects in it, and the folder in which commands run."""

    install: DoctorInstall
    folder: Path
    objects: dict[str, str]

    def arguments(self, line: str) -> list[str]:
        """Return the words of a command, with objects in the place of words such as ID."""
        line = f"{line} {ARGUMENTS.get(line, '')}"
        line += "'" * (line.count("'") % 2)  # an expression that the code inserts ended the line

        def value(match: re.Match[str]) -> str:
            if line.startswith("ops user erase") and "--dry-run" not in line:
                return str(insert_user(self.install.flask_app, self.engine).id)
            before = line[: match.start()].split()
            names = (" ".join([*before[1:], match[0]]), f"{before[-1]} {match[0]}", f"{before[1]} {match[0]}", match[0])
            return shlex.quote(next(self.objects[name] for name in names if name in self.objects))

        return shlex.split(PLACEHOLDER.sub(value, line))

    @property
    def engine(self) -> Engine:
        with self.install.flask_app.app_context():
            return db.engine

    def run(self, line: str) -> Result:
        """Run a command; it is confirmed if it asks."""
        group, *arguments = self.arguments(line)
        command: click.Command = GROUPS[group]
        for word in arguments:
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word) or command
        asks = any("--yes" in parameter.opts for parameter in command.params)
        if asks and "--dry-run" not in arguments and line != "ops locks":  # that one asks only to end a session
            arguments.append("--yes")
        runner = self.install.flask_app.test_cli_runner()
        return runner.invoke(GROUPS[group], arguments, input="Bearer a-token\n")


@pytest.fixture(scope="module")
def prepared(shared_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Prepare backups, an MCP server, users, an archived conversation and a missing index."""
    folder, backups = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("backups")
    changes: dict[str, dict[str, Any]] = {
        "backups": {"url": backups.as_uri()},
        "mcp_servers": {"private_hosts": ("127.0.0.1",), "secrets_key": SecretStr("k" * 32)},
    }
    with (
        Upstream(ScriptedMcp([tool("forecast")]).script) as upstream,
        open_install(shared_url, settings, changes) as install,
    ):
        prepared = Prepared(install, folder, {})
        user = insert_user(install.flask_app, prepared.engine)
        conversation = make_idle(prepared.engine, user, numbered_messages(3))
        archive_all(install.flask_app)
        install.run("UPDATE archive_runs SET state = 'running', finished_at = NULL")  # as if its process was killed
        held = make_idle(prepared.engine, insert_user(install.flask_app, prepared.engine), numbered_messages(3))
        install.run("DROP INDEX ix_turns_conversation")
        assert install.call("jobs", "run", "search.sweep").exit_code == 0
        assert install.call("jobs", "pause", "search.sweep", "--reason", "it is to be resumed").exit_code == 0
        install.run(
            "CREATE EXTENSION pgstattuple", "CREATE DATABASE unfinished", f"COMMENT ON DATABASE unfinished {MARK}"
        )
        created = install.call("backup", "create", "--json")
        prepared.objects |= {
            "ID": str(user.id),
            "USER": str(user.id),
            "ID_OR_EMAIL": user.email,
            "--conversation ID": str(conversation),
            "--run ID": str(install.value("SELECT id FROM archive_runs LIMIT 1")),
            "RUN": str(install.value("SELECT id FROM archive_runs LIMIT 1")),
            "show RUN": str(install.value("SELECT id FROM job_runs WHERE job = 'search.sweep'")),
            "backup NAME": orjson.loads(created.stdout)["report"]["name"],
            "archive hold add --conversation ID": str(held),
            "discard NAME": "unfinished",
            "switch NAME": "only_named",
            "jobs NAME": "search.sweep",
            "mcp NAME": "weather",
            "provider NAME": "demo",
            "TOOL": "forecast",
            "URL": mcp_url(upstream),
            "N": "1000000",
        }
        yield prepared
        name = make_url(shared_url).database
    server = make_url(shared_url).set(database="postgres").render_as_string(hide_password=False)
    for (other,) in run_sql(server, "SELECT datname FROM pg_database"):
        if other in ("audit_before", "only_named", "unfinished") or (other != name and other.startswith(f"{name}_")):
            run_sql(server, f'DROP DATABASE "{other}" WITH (FORCE)')


@pytest.mark.xdist_group("runbooks")  # in their order
@pytest.mark.parametrize("line", runbook_commands())
def test_command_runs(line: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared.folder)
    if line == SWITCH:
        prepared.install.owner.close()
        with prepared.install.flask_app.app_context():
            for engine in db.engines.values():
                engine.dispose()
    result = prepared.run(line)
    documented = (0, 1, 2, UNKNOWN) if line.startswith(REPORTS) else (0, 1, UNKNOWN)
    assert result.exit_code in documented, f"{result.exit_code}: {result.output}{result.exception!r}"


@pytest.mark.xdist_group("runbooks")
@pytest.mark.parametrize("query", runbook_queries())
def test_query_runs(query: str, prepared: Prepared) -> None:
    for placeholder, value in PLACEHOLDERS_OF_SQL.items():
        query = query.replace(placeholder, value)
    run_sql(prepared.install.url, query)
