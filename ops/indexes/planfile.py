"""A plan as a file: written for a person to read, read again strictly."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidInput
from ops.checks.indexes.steps import BYTES_PER_SECOND
from ops.indexes.planning import Plan

SCHEMA = "parley.index-plan/1"
LARGEST = 10_000_000  # bytes of a file


_PLAN = TypeAdapter(Plan)
# What the file says beside the plan itself, for whoever reads it.
_TOLD, _TOLD_OF_A_STEP = ("schema", "estimated_by"), ("number", "estimated_minutes")


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan` to a file that does not exist yet, whole or not at all. Raises `InvalidInput` where that fails."""
    text = orjson.dumps(as_data(plan), option=orjson.OPT_INDENT_2) + b"\n"
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(text)
            os.link(draft, path)  # unlike a rename it fails where there is a file already
        finally:
            Path(draft).unlink()
    except FileExistsError:
        raise InvalidInput(f"{path} exists already; name another file.") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}.") from None


def read_plan(path: Path) -> Plan:
    """The plan in `path`. Raises `InvalidInput` saying what is wrong with the file."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
        data = orjson.loads(raw) if len(raw) <= LARGEST else None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error.msg}, line {error.lineno}.") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InvalidInput(f"{path} is no plan of this version: its schema is not {SCHEMA}. Make a new one.")
    try:
        plan = from_data(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path} is damaged or was changed: {place}: {first['msg']}. Make a new one.") from None
    if plan.made_at.tzinfo is None:
        raise InvalidInput(f"{path} is damaged or was changed: made_at has no time zone. Make a new one.")
    return plan


def from_data(data: dict[str, Any]) -> Plan:
    """The plan that `data` says, as a file or the history of jobs has it. Raises pydantic's `ValidationError`."""
    return _PLAN.validate_python(_bare(data), extra="forbid")


def as_data(plan: Plan) -> dict[str, Any]:
    """What the file says."""
    data = asdict(plan)
    for number, (written, step) in enumerate(zip(data["steps"], plan.steps, strict=True), 1):
        written |= {"number": number, "estimated_minutes": step.minutes}
    estimated_by = f"{BYTES_PER_SECOND // 1_000_000} MB read or written per second, waiting not counted"
    return {"schema": SCHEMA, "estimated_by": estimated_by, **data}


def _bare(data: dict[str, Any]) -> dict[str, Any]:
    plan = {name: value for name, value in data.items() if name not in _TOLD}
    if isinstance(steps := plan.get("steps"), list):
        plan["steps"] = [
            {name: value for name, value in step.items() if name not in _TOLD_OF_A_STEP}
            if isinstance(step, dict)
            else step
            for step in steps
        ]
    return plan
