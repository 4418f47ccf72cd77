"""A reader of /metrics that parses as Prometheus does."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import exposition

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """One response of /metrics. Names are without the prefix."""

    text: str
    values: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of all series that have these labels, 0 if there is none."""
        subset = frozenset(labels.items())
        return sum(value for (full, has), value in self.values.items() if full == f"parley_{name}" and subset <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """Return all values that `label` has in the series of that name."""
        return {dict(has)[label] for full, has in self.values if full == f"parley_{name}"}

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


def parse(text: str) -> Scrape:
    return Scrape(text, {(name, labels): value for name, labels, value in _samples(text)})


def here() -> Scrape:
    """Return the metrics of this process."""
    body, _ = exposition.render("")
    return parse(body.decode())


def _samples(text: str) -> Iterator[tuple[str, Labels, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels.items()), sample.value


class Since:
    """Differences of metrics since this object was made."""

    def __init__(self) -> None:
        self._before = here()

    def counted(self, name: str, **labels: str) -> float:
        return here().value(name, **labels) - self._before.value(name, **labels)
