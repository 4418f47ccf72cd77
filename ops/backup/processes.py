"""Execution of pg_dump and pg_restore: streamed data, a one-line error, and no process left behind."""

import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from app.storage.base import CHUNK
from ops.backup.errors import BackupError, DumpFailed, RestoreFailed
from ops.backup.programs import Programs
from ops.backup.target import LOCK_SECONDS, Target
from ops.embedded.parent_death import signal_on_parent_death
from ops.embedded.server import minimal_environment

Copy = Callable[[Callable[[bytes], Any]], None]  # writes a dump, in chunks, with the function that it is given

IDLE_SECONDS = 1.0  # between empty chunks while pg_dump has no output
_STDERR_BYTES = 20_000  # searched for an error
_SHOWN_CHARACTERS = 500  # of the error


def run_pg_dump(programs: Programs, target: Target, *, snapshot: str) -> Generator[bytes]:
    """Dump `target` at the snapshot and yield the dump in chunks, in pg_dump's custom format.

    The first chunk with data comes after pg_dump imported the snapshot. While there is no data, an empty chunk is
    yielded every second, so that the caller can check other conditions. Raises `DumpFailed` with pg_dump's error.
    """
    command = [
        programs.pg_dump,
        "--format=custom",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={LOCK_SECONDS * 1000}",
        "--no-password",
        f"--dbname={target.conninfo}",
    ]
    with _running(command, target.environment(), DumpFailed, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        pipe = process.stdout.fileno()
        while True:
            if not select.select([pipe], [], [], IDLE_SECONDS)[0]:
                yield b""
                continue
            chunk = os.read(pipe, CHUNK)
            if not chunk:
                break
            yield chunk


def run_pg_restore(programs: Programs, target: Target, copy: Copy, *, entries: str | None = None) -> None:
    """Restore a dump into the empty database `target` in one transaction.

    `copy` writes the dump. `entries` restricts the restore to these lines of `list_entries`. Owners, privileges and
    tablespaces are omitted, because they may not exist there; the role of `target` owns everything. Comments are
    omitted, because only the owner of an extension can set its comment. Raises `RestoreFailed` with pg_restore's error.
    """
    with tempfile.NamedTemporaryFile("w") as list_file:
        chosen = []
        if entries is not None:
            list_file.write(entries)
            list_file.flush()
            chosen = [f"--use-list={list_file.name}"]
        command = [
            programs.pg_restore,
            "--exit-on-error",
            "--single-transaction",
            "--no-owner",
            "--no-privileges",
            "--no-tablespaces",
            "--no-comments",
            "--no-publications",
            "--no-subscriptions",
            "--no-security-labels",
            "--no-password",
            *chosen,
            f"--dbname={target.conninfo}",
        ]
        with _running(
            command, target.environment(), RestoreFailed, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            _feed(process, copy)


def list_entries(programs: Programs, copy: Copy) -> str:
    """Return pg_restore's list of the objects in a dump, one per line. Only the head of the dump is read.

    Raises `RestoreFailed` with pg_restore's error.
    """
    with tempfile.TemporaryFile() as listed:
        command = [programs.pg_restore, "--list"]
        # A file, because pg_restore would wait for a reader of its list while this process still writes the dump.
        with _running(
            command, minimal_environment(), RestoreFailed, stdin=subprocess.PIPE, stdout=listed.fileno()
        ) as process:
            _feed(process, copy)
        listed.seek(0)
        return listed.read().decode(errors="surrogateescape")


def _feed(process: "subprocess.Popen[bytes]", copy: Copy) -> None:
    """Let `copy` write to the program's standard input, until the program exits."""
    assert process.stdin is not None  # noqa: S101  # for the type checker: it is a pipe
    try:
        copy(process.stdin.write)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has exited; its exit code and standard error say why


@contextmanager
def _running(
    command: list[str],
    environment: Mapping[str, str],
    failure: type[BackupError],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program during the block. It is killed at the end of the block, and if this process dies."""
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(  # noqa: S603  # a fixed list of arguments, no shell
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                preexec_fn=signal_on_parent_death(signal.SIGKILL),  # only makes system calls
                start_new_session=True,  # only this process handles Ctrl-C
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise failure(f"{command[0]} cannot be started: {error}") from error
        try:
            yield process
            process.wait()
        finally:
            _end(process)
        if process.returncode != 0:
            raise failure(_failure_message(command[0], process.returncode, stderr))


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


def _failure_message(program: str, code: int, stderr: IO[bytes]) -> str:
    """Return the first error, which causes the others, without the lines below it, which can contain a user's data."""
    name = program.rpartition("/")[2]
    if code < 0:
        return f"{name} was ended by the signal {signal.Signals(-code).name}; its result was discarded."
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read(_STDERR_BYTES).decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error:|FATAL:|ERROR:", line)]
    shown = (errors[:1] or lines[-1:] or [""])[0][:_SHOWN_CHARACTERS]
    return f"{name} failed: {shown.removeprefix(f'{name}: error: ') or f'exit code {code}'}"
