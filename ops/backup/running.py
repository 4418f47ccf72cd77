"""Running pg_dump and pg_restore: streams in pieces, one line when they fail, and nothing left running."""

import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from ops.backup.errors import BackupError, DumpFailed, RestoreFailed
from ops.backup.programs import Programs
from ops.backup.stores.base import CHUNK
from ops.backup.target import LOCK_SECONDS, Target
from ops.embedded.parent_death import dying_with_parent

LOOK_AROUND = 1.0  # seconds
_SAID = 20_000  # bytes of what a program said that are looked at
_SHOWN = 500  # characters of it that are shown


def dump(programs: Programs, target: Target, *, snapshot: str) -> Generator[bytes]:
    """The dump of `target` as it was in that snapshot, in pg_dump's own compressed format, piece by piece.

    The first piece comes when pg_dump looks through the snapshot itself. While none comes, an empty one does every
    second, so that the caller can look around. Raises `DumpFailed` with pg_dump's own words.
    """
    command = [
        programs.pg_dump,
        "--format=custom",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={LOCK_SECONDS * 1000}",
        "--no-password",
        f"--dbname={target.conninfo}",
    ]
    with _running(command, target, DumpFailed, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        pipe = process.stdout.fileno()
        while True:
            if not select.select([pipe], [], [], LOOK_AROUND)[0]:
                yield b""
                continue
            piece = os.read(pipe, CHUNK)
            if not piece:
                break
            yield piece


def restore(programs: Programs, target: Target, pieces: Iterable[bytes]) -> None:
    """Restore a dump into the empty database `target`, in one transaction: all of it or nothing.

    Owners and grants are left out, because the roles may not exist there; everything belongs to the account of
    `target`. Comments are, because an extension's is its owner's. Raises `RestoreFailed` with pg_restore's own words.
    """
    command = [
        programs.pg_restore,
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        "--no-privileges",
        "--no-comments",
        "--no-publications",
        "--no-subscriptions",
        "--no-security-labels",
        "--no-password",
        f"--dbname={target.conninfo}",
    ]
    with _running(command, target, RestoreFailed, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None  # noqa: S101  # for the type checker: it is a pipe
        try:
            for piece in pieces:
                process.stdin.write(piece)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, and says why


@contextmanager
def _running(
    command: list[str],
    target: Target,
    failure: type[BackupError],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
) -> Iterator["subprocess.Popen[bytes]"]:
    """The program, which ends with the block, and with this process if that is killed."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(  # noqa: S603  # our own list of arguments, no shell
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=said,
                env=target.environment(),
                preexec_fn=dying_with_parent(signal.SIGKILL),  # it only makes system calls
                start_new_session=True,  # a Ctrl-C is ours to answer
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise failure(f"{command[0]} cannot be run: {error}") from error
        try:
            yield process
            process.wait()
        finally:
            _end(process)
        if process.returncode != 0:
            raise failure(_last_words(command[0], process.returncode, said))


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    process.wait()


def _last_words(program: str, code: int, said: IO[bytes]) -> str:
    """The first error it told, which the others follow from. Not what stands below it: that may be somebody's row."""
    name = program.rpartition("/")[2]
    if code < 0:
        return f"{name} was ended by the signal {signal.Signals(-code).name}; nothing was kept of its work."
    said.seek(0)
    lines = [line.strip() for line in said.read(_SAID).decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error:|FATAL:|ERROR:", line)]
    shown = (errors[:1] or lines[-1:] or [""])[0][:_SHOWN]
    return f"{name} failed: {shown.removeprefix(f'{name}: error: ') or f'exit code {code}'}"
