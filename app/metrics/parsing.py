"""Parsing of the metrics that a server exposes."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Samples = dict[str, dict[Labels, float]]


def parse_samples(text: str) -> Samples:
    """Return the samples of a text in Prometheus's format by name and labels. Raises `ValueError` for another text."""
    names: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names[sample.name][frozenset(sample.labels.items())] = sample.value
    return dict(names)
