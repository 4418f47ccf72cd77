"""The embedded Redis: the job queue, stored in an append-only file."""

import signal
from pathlib import Path

from ops.embedded.binaries import Program, find_redis
from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import load_or_create_secret
from ops.embedded.server import Server, last_line
from ops.embedded.site import replace_file, translate_os_errors

PASSWORD = "redis_password"  # noqa: S105  # the name of its file

CONFIGURATION = """\
# Overwritten at every start.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{data}"
appendonly yes
appendfsync {fsync}
save ""
daemonize no
logfile ""
loglevel warning
maxclients {max_connections}
"""


def redis_url(password: str, port: int) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


class RedisServer(Server):
    """The embedded Redis."""

    name = "redis"
    stop_signal = signal.SIGTERM
    force_signal = signal.SIGKILL

    _program: Program

    @property
    def data(self) -> Path:
        return self.site.home / "redis"

    def prepare(self) -> str:
        self._program = find_redis(self.site)
        with translate_os_errors(self.data):
            self.data.mkdir(mode=0o700, exist_ok=True)
            self.site.give_to_server(self.data)
        return self._program.version

    def command(self, port: int) -> list[str]:
        text = CONFIGURATION.format(
            port=port,
            password=load_or_create_secret(self.site, PASSWORD),
            data=str(self.data).replace("\\", "\\\\").replace('"', '\\"'),
            fsync="everysec" if self.options.durable else "no",
            max_connections=self.options.max_connections,
        )
        path = self.data / "redis.conf"
        with translate_os_errors(self.data):
            replace_file(path, text, self.site)
        return [str(self._program.folder / "redis-server"), str(path)]

    def is_ready(self, port: int) -> bool:
        import redis  # slow to import, and not needed to lease a running server
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        password = load_or_create_secret(self.site, PASSWORD)
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=5, retry=once)
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise EmbeddedError(f"another Redis uses the port 127.0.0.1:{port}: try again") from None
        except (redis.ConnectionError, redis.TimeoutError):  # not listening yet, or still loading its data
            return False
        finally:
            client.close()

    def failure_reason(self, log: str) -> str:
        return last_line(log, "Fatal", "fatal", "Bad file", "Can't", "Failed", "error while loading shared libraries")
