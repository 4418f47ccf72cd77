"""The embedded PostgreSQL.

Its only role, `parley`, is a superuser: the server holds only Parley's data and listens on loopback, and the checks
need a superuser (to create pg_stat_statements, pgstattuple and amcheck, and databases for the tests). On a shared
server, DATABASE_URL should use an ordinary role.
"""

import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2 import sql

from ops.embedded.binaries import Program, find_postgres
from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import load_or_create_secret
from ops.embedded.server import Server, last_line, run_tool
from ops.embedded.site import replace_file, translate_os_errors

EXTENSIONS = ("pg_stat_statements", "pgstattuple", "amcheck")
ROLE = DATABASE = "parley"
PASSWORD = "postgres_password"  # noqa: S105  # the name of its file

# Sized for a laptop. Statements and row values are not logged, because they contain users' messages.
CONFIGURATION = """\
# Overwritten at every start. Settings of ALTER SYSTEM (postgresql.auto.conf) take precedence and are kept.
cluster_name = 'parley'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = {max_connections}
shared_buffers = '128MB'
max_wal_size = '512MB'
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_checkpoints = off
log_error_verbosity = 'terse'
log_min_error_statement = 'panic'
log_line_prefix = '%m [%p] '
"""
PRELOAD = """\
shared_preload_libraries = 'pg_stat_statements'
"""
# The tests run more different statements than the application; the last line keeps the rare ones.
NOT_DURABLE = """\
fsync = off
full_page_writes = off
pg_stat_statements.max = 10000
"""


def postgres_url(password: str, port: int) -> str:
    return f"postgresql+psycopg2://{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}"


class PostgresServer(Server):
    """The embedded PostgreSQL."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: disconnects clients, writes everything
    force_signal = signal.SIGQUIT  # "immediate" shutdown: recovery at the next start

    _program: Program

    @property
    def data(self) -> Path:
        return self.site.home / "postgres"

    def prepare(self) -> str:
        major = self._major_of_data()
        self._program = find_postgres(self.site, major)
        if major is None:
            self._create_data()
        return self._program.version

    def command(self, port: int) -> list[str]:
        self._configure(self.data)
        return [str(self._program.folder / "postgres"), "-D", str(self.data), "-p", str(port)]

    def is_ready(self, port: int) -> bool:
        password = load_or_create_secret(self.site, PASSWORD)
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user=ROLE, password=password, dbname="postgres", connect_timeout=10
            )
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    f"the database in {self.data} has another password than the one in "
                    f"{self.site.home / 'keys' / PASSWORD}: restore that file, or move the data folder away"
                ) from None
            return False
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
                if not cursor.rowcount:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        finally:
            connection.close()
        self._create_extensions(port, password)
        return True

    def _create_extensions(self, port: int, password: str) -> None:
        """Create the extensions that the checks use, if they are available."""
        with closing(
            psycopg2.connect(host="127.0.0.1", port=port, user=ROLE, password=password, dbname=DATABASE)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT name FROM pg_available_extensions WHERE name = ANY (%s) AND installed_version IS NULL",
                    (list(EXTENSIONS),),
                )
                for (name,) in cursor.fetchall():
                    cursor.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))

    def failure_reason(self, log: str) -> str:
        return last_line(log, "FATAL:", "PANIC:", "error while loading shared libraries")

    def _major_of_data(self) -> int | None:
        """Return the major version of the data folder, or None if it does not exist."""
        with translate_os_errors(self.data):
            if not self.data.is_dir() or not any(self.data.iterdir()):
                return None
            try:
                return int((self.data / "PG_VERSION").read_text())
            except (FileNotFoundError, ValueError):
                raise EmbeddedError(
                    f"{self.data} is not empty and not a data folder of PostgreSQL: move it away or set PARLEY_HOME"
                ) from None

    def _create_data(self) -> None:
        """Run initdb in a draft folder, then rename it, so that an interrupted initdb leaves no data folder."""
        draft = self.data.with_suffix(".new")
        with translate_os_errors(self.data):
            if draft.exists():
                shutil.rmtree(draft)
            draft.mkdir(mode=0o700)
            self.site.give_to_server(draft)
            password = draft.with_suffix(".password")
            password.unlink(missing_ok=True)
            password.touch(mode=0o600)
            password.write_text(load_or_create_secret(self.site, PASSWORD))
            self.site.give_to_server(password)
        try:
            done = self._initdb(draft, password)
        finally:
            password.unlink()
        if done.returncode != 0:
            reason = last_line(done.stderr, "error:", "FATAL:")
            raise EmbeddedError(f"PostgreSQL could not create its data folder {draft}: {reason}")
        with translate_os_errors(self.data):
            draft.rename(self.data)

    def _initdb(self, folder: Path, password: Path) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [
            self._program.folder / "initdb", "-D", folder, "-U", ROLE, "--pwfile", password, "--encoding", "UTF8",
            "--data-checksums", "--auth", "scram-sha-256",
        ]  # fmt: skip
        if not self.options.durable:
            command.append("--no-sync")
        if self._program.major >= 17:
            return run_tool(
                self.site,
                [*command, "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
                seconds=120,
            )
        done = run_tool(self.site, [*command, "--locale=C.UTF-8"], seconds=120)
        if done.returncode != 0 and "locale" in done.stderr:  # not every system has this locale
            done = run_tool(self.site, [*command, "--locale=C"], seconds=120)
        return done

    def _configure(self, folder: Path) -> None:
        text = CONFIGURATION.format(max_connections=self.options.max_connections)
        if any(self._program.folder.parent.rglob("pg_stat_statements.so")) or any(
            self._program.folder.parent.rglob("pg_stat_statements.dylib")
        ):
            text += PRELOAD
        if not self.options.durable:
            text += NOT_DURABLE
        with translate_os_errors(self.data):
            replace_file(folder / "postgresql.conf", text, self.site)
