"""Backups as they must not be, made of a good one."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg2
from psycopg2.extensions import make_dsn

from ops.backup.names import DUMP, MANIFEST
from ops.backup.programs import Programs


def copy_of(folder: Path, into: Path) -> Path:
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(folder, into)
    return into


def dump_in(folder: Path) -> Path:
    [path] = folder.glob(f"*{DUMP}")
    return path


def manifest_in(folder: Path) -> Path:
    [path] = folder.glob(f"*{MANIFEST}")
    return path


def flip_a_bit(folder: Path) -> None:
    content = bytearray(dump_in(folder).read_bytes())
    content[len(content) * 2 // 3] ^= 0b100
    dump_in(folder).write_bytes(content)


def cut_off(folder: Path) -> None:
    os.truncate(dump_in(folder), dump_in(folder).stat().st_size * 6 // 10)


def lose_the_dump(folder: Path) -> None:
    dump_in(folder).unlink()


def edit_the_manifest(folder: Path) -> None:
    text = manifest_in(folder).read_text()
    manifest_in(folder).write_text(text.replace('"rows": 4000', '"rows": 4001'))


def cut_the_manifest(folder: Path) -> None:
    os.truncate(manifest_in(folder), 200)


def fill_the_manifest(folder: Path) -> None:
    manifest_in(folder).write_text('{"seal": "x", "schema": ["parley"]}')


def rename_it(folder: Path) -> None:
    for path in (dump_in(folder), manifest_in(folder)):
        path.rename(path.with_name(path.name.replace("Z-", "Z-ffffffff", 1)[: len(path.name) - 8] + path.name[-8:]))


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who knows how it is sealed."""
    document = json.loads(manifest_in(folder).read_text())
    del document["seal"]
    change(document)
    seal = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    manifest_in(folder).write_text(json.dumps({**document, "seal": seal}))


def put_dump_of(url: str, programs: Programs, folder: Path, *options: str) -> None:
    """Put another dump in the place of this one, with a manifest that believes in it: as if pg_dump had erred."""
    done = psycopg2.connect(url.replace("+psycopg2", ""))
    dsn = make_dsn(url.replace("+psycopg2", ""), password=done.info.password)
    done.close()
    subprocess.run([programs.pg_dump, "-Fc", "-f", str(dump_in(folder)), *options, dsn], check=True)
    content = dump_in(folder).read_bytes()

    def believe(document: dict[str, Any]) -> None:
        document["dump"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    reseal(folder, believe)
