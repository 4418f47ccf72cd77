"""Redis in a folder of our own: the queue of background work. Everything it accepts is in its append-only file."""

import signal
from pathlib import Path

from ops.embedded.binaries import Program, find_redis
from ops.embedded.errors import EmbeddedError
from ops.embedded.keys import kept_secret
from ops.embedded.server import Server, last_line
from ops.embedded.site import explained

PASSWORD = "redis_password"  # noqa: S105  # the name of its file

CONFIGURATION = """\
# Written anew at every start.
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
    name = "redis"
    stop_signal = signal.SIGTERM
    force_signal = signal.SIGKILL

    _program: Program

    @property
    def data(self) -> Path:
        return self.site.home / "redis"

    def prepare(self) -> str:
        self._program = find_redis(self.site)
        with explained(self.data):
            self.data.mkdir(mode=0o700, exist_ok=True)
            self.site.give_to_server(self.data)
        return self._program.version

    def command(self, port: int) -> list[str]:
        text = CONFIGURATION.format(
            port=port,
            password=kept_secret(self.site, PASSWORD),
            data=str(self.data).replace("\\", "\\\\").replace('"', '\\"'),
            fsync="everysec" if self.options.durable else "no",
            max_connections=self.options.max_connections,
        )
        path = self.data / "redis.conf"
        with explained(self.data):
            path.touch(mode=0o600)
            path.write_text(text)
            self.site.give_to_server(path)
        return [str(self._program.folder / "redis-server"), str(path)]

    def is_ready(self, port: int) -> bool:
        import redis  # not cheap, and who only leases the server does not need it
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        password = kept_secret(self.site, PASSWORD)
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=5, retry=once)
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise EmbeddedError(f"somebody else's Redis answers at 127.0.0.1:{port}: try again") from None
        except (redis.ConnectionError, redis.TimeoutError):  # not listening yet, or still reading its file
            return False
        finally:
            client.close()

    def last_words(self, log: str) -> str:
        return last_line(log, "Fatal", "fatal", "Bad file", "Can't", "Failed", "error while loading shared libraries")
