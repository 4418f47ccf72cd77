"""Memory of a process for the images of its turns: a share of each user."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest

from app.config import Settings
from app.ids import new_id
from app.storage.folder import FolderStore
from app.turns.images import TURNS_AT_ONCE, TURNS_OF_USER, ImageLoader, LoadedImages, StoredImage

BYTES = 1_000  # of the images of one message

Load = Callable[[UUID], LoadedImages]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def loader(tmp_path: Path, settings: Settings) -> ImageLoader:
    (tmp_path / "image").write_bytes(b"x" * BYTES)
    limits = settings.files.model_copy(update={"max_image_bytes": BYTES})
    return ImageLoader(limits, lambda: FolderStore(tmp_path, setting="FILES_URL"))


@pytest.fixture
def load(loader: ImageLoader, stack: ExitStack) -> Load:
    """Return a function that begins a turn with the largest images."""
    image = StoredImage("id", "a.png", "image/png", BYTES, "image")
    return lambda user_id: stack.enter_context(loader.load(user_id, [image]))


def test_user_with_many_turns_takes_only_a_share(load: Load) -> None:
    user, other = new_id(), new_id()
    for _ in range(TURNS_OF_USER):
        assert len(load(user).images) == 1
    for _ in range(TURNS_AT_ONCE):
        assert load(user).left_out == {"id": "busy"}
    assert len(load(other).images) == 1


def test_users_together_stay_within_the_memory_of_the_process(load: Load, stack: ExitStack) -> None:
    for _ in range(TURNS_AT_ONCE):
        assert len(load(new_id()).images) == 1
    late = new_id()
    assert load(late).left_out == {"id": "busy"}
    stack.close()  # the turns end
    for _ in range(TURNS_OF_USER):
        assert len(load(late).images) == 1
