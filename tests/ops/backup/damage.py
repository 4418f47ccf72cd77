"""Ways to damage a backup in a folder."""

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


def flip_bit(folder: Path) -> None:
    content = bytearray(dump_in(folder).read_bytes())
    content[len(content) * 2 // 3] ^= 0b100
    dump_in(folder).write_bytes(content)


def truncate_dump(folder: Path) -> None:
    os.truncate(dump_in(folder), dump_in(folder).stat().st_size * 6 // 10)


def delete_dump(folder: Path) -> None:
    dump_in(folder).unlink()


def edit_manifest(folder: Path) -> None:
    text = manifest_in(folder).read_text()
    manifest_in(folder).write_text(text.replace('"rows": 4000', '"rows": 4001'))


def truncate_manifest(folder: Path) -> None:
    os.truncate(manifest_in(folder), 200)


def overwrite_manifest(folder: Path) -> None:
    manifest_in(folder).write_text('{"seal": "x", "schema": ["parley"]}')


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and recompute its checksum."""
    document = json.loads(manifest_in(folder).read_text())
    del document["seal"]
    change(document)
    seal = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()
    manifest_in(folder).write_text(json.dumps({**document, "seal": seal}))


def put_dump_of(url: str, programs: Programs, folder: Path, *options: str) -> None:
    """Replace the dump by one of the database at `url` and adapt the manifest, as if pg_dump had made an error."""
    done = psycopg2.connect(url.replace("+psycopg2", ""))
    dsn = make_dsn(url.replace("+psycopg2", ""), password=done.info.password)
    done.close()
    subprocess.run([programs.pg_dump, "-Fc", "-f", str(dump_in(folder)), *options, dsn], check=True)
    content = dump_in(folder).read_bytes()

    def adapt(document: dict[str, Any]) -> None:
        document["dump"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    reseal(folder, adapt)
