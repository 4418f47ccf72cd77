"""The turns' SQL against its golden files, so that a diff shows each change of what is sent."""

import pytest

from app.repositories import prepared_turns
from app.repositories.turn_begin import BeginParameters
from app.repositories.turn_finish import FinishParameters
from tests.repositories.golden_sql import COMMAND, FOLDER, golden_texts

TEXTS = golden_texts()


@pytest.mark.parametrize("name", TEXTS)
def test_statement_matches_golden_file(name: str) -> None:
    path = FOLDER / name
    stored = path.read_text() if path.is_file() else ""
    assert TEXTS[name] == stored, f"{path} differs from the statement: review the change, then run `{COMMAND}`"


def test_each_golden_file_has_a_statement() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(TEXTS), f"run `{COMMAND}`"


def test_prepared_types_name_existing_parameters() -> None:
    parameters = {*BeginParameters.__dataclass_fields__, *FinishParameters.__dataclass_fields__}
    assert set(prepared_turns.TYPES) <= parameters
