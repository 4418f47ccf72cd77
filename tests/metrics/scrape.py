"""Reading metrics as a Prometheus does."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import exposition

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """One answer of /metrics. Names go without the prefix."""

    text: str
    values: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all series that have these labels; 0 where there is none."""
        wanted = frozenset(labels.items())
        return sum(value for (found, has), value in self.values.items() if found == f"parley_{name}" and wanted <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """All values that `label` has in the series of that name."""
        return {dict(has)[label] for found, has in self.values if found == f"parley_{name}"}

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


def parse(text: str) -> Scrape:
    return Scrape(text, {(name, labels): value for name, labels, value in _samples(text)})


def here() -> Scrape:
    """What this process has counted."""
    body, _ = exposition.render("")
    return parse(body.decode())


def _samples(text: str) -> Iterator[tuple[str, Labels, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels.items()), sample.value


class Since:
    """What has been counted since this was made; gauges are as they stand."""

    def __init__(self) -> None:
        self._before = here()

    def counted(self, name: str, **labels: str) -> float:
        return here().value(name, **labels) - self._before.value(name, **labels)
