import pytest

from tests.metrics.scrape import Since


@pytest.fixture
def since() -> Since:
    return Since()
