"""Plan files: written for an operator to review, and validated strictly when read."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidInput
from ops.indexes.planning import Plan
from ops.indexes.steps import BYTES_PER_SECOND

SCHEMA = "parley.index-plan/2"
MAX_BYTES = 10_000_000

_PLAN = TypeAdapter(Plan)
# Fields of the file that inform the reader and are not part of the plan.
_EXTRA, _EXTRA_OF_STEP = ("schema", "estimated_by"), ("number", "estimated_minutes")


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan` to a new file, atomically. Raises `InvalidInput` if the file exists or cannot be written."""
    text = orjson.dumps(as_data(plan), option=orjson.OPT_INDENT_2) + b"\n"
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text)
            os.link(draft, path)  # unlike a rename, it fails if the file exists
        finally:
            Path(draft).unlink()
    except FileExistsError:
        raise InvalidInput(f"{path} exists already; name another file.") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from None


def read_plan(path: Path) -> Plan:
    """Read the plan in `path`. Raises `InvalidInput` with the reason if the file is not valid."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        data = orjson.loads(content) if len(content) <= MAX_BYTES else None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error.msg}, line {error.lineno}.") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InvalidInput(f"{path} is not a plan of this version: its schema is not {SCHEMA}. Make a new plan.")
    try:
        plan = from_data(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path} is damaged or was changed: {field}: {first['msg']}. Make a new plan.") from None
    if plan.made_at.tzinfo is None:
        raise InvalidInput(f"{path} is damaged or was changed: made_at has no time zone. Make a new plan.")
    return plan


def from_data(data: dict[str, Any]) -> Plan:
    """Return the plan in `data`, from a file or a job's report. Raises pydantic's `ValidationError`."""
    return _PLAN.validate_python(_without_extra(data), extra="forbid")


def as_data(plan: Plan) -> dict[str, Any]:
    """Return the content of the file."""
    data = asdict(plan)
    for number, (fields, step) in enumerate(zip(data["steps"], plan.steps, strict=True), 1):
        fields |= {"number": number, "estimated_minutes": step.minutes}
    estimated_by = f"{BYTES_PER_SECOND // 1_000_000} MB read or written per second, without waiting for locks"
    return {"schema": SCHEMA, "estimated_by": estimated_by, **data}


def _without_extra(data: dict[str, Any]) -> dict[str, Any]:
    plan = {name: value for name, value in data.items() if name not in _EXTRA}
    if isinstance(steps := plan.get("steps"), list):
        plan["steps"] = [
            {name: value for name, value in step.items() if name not in _EXTRA_OF_STEP}
            if isinstance(step, dict)
            else step
            for step in steps
        ]
    return plan
