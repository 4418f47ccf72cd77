"""Scrapes of GET /metrics of a running server."""

import time
from dataclasses import dataclass

import urllib3

from app.metrics.parsing import Labels, Samples, parse_samples
from app.metrics.process import BUILD_INFO
from app.outbound.errors import short_reason
from ops.catalogue.promql import AnyMetric, name_of
from ops.errors import UnknownState

PATH = "/metrics"
TIMEOUT = 10.0  # seconds
MAX_BYTES = 67_108_864  # of a response; 100 times that of a busy server


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one response by name, at `clock` (monotonic time) and `timestamp` (Unix time)."""

    clock: float
    timestamp: float
    samples: Samples

    def values(self, metric: AnyMetric, suffix: str = "", **labels: str) -> dict[Labels, float]:
        """Return the series of a metric that have these labels."""
        wanted = labels.items()
        series = self.samples.get(name_of(metric) + suffix, {})
        return {names: value for names, value in series.items() if wanted <= dict(names).items()}

    def total(self, metric: AnyMetric, **labels: str) -> float | None:
        """Return the sum of the series; None if there is none."""
        values = self.values(metric, **labels)
        return sum(values.values()) if values else None


class ScrapeFailed(UnknownState):
    """The server did not respond, or not with metrics of Parley. A later scrape may succeed."""


class Scraper:
    """A client of the metrics of the server at `url`. Redirects are not followed: they would get the token."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(TIMEOUT))

    def scrape(self) -> Scrape:
        """Return the metrics of now. Raises `ScrapeFailed`, and `UnknownState` if the server refuses the token."""
        try:
            response = self._http.request(
                "GET", self.url + PATH, headers=self._headers, redirect=False, preload_content=False
            )
            with response:
                body = response.read(MAX_BYTES, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise ScrapeFailed(
                f"No response from {self.url} ({short_reason(error)}).",
                remedy="start Parley with `make up`, or pass the URL of a web server with --url",
            ) from None
        if response.status in (401, 403):
            raise UnknownState(
                f"{self.url} refused the token (status {response.status}).",
                remedy="set OPS_TOKEN to the value that the server has",
            )
        samples = _parse(body) if response.status == 200 else {}
        if name_of(BUILD_INFO) not in samples:
            raise ScrapeFailed(
                f"{self.url}{PATH} has no metrics of Parley (status {response.status}).",
                remedy="pass the URL of a web server with --url; nginx does not publish this path",
            )
        return Scrape(clock=time.monotonic(), timestamp=time.time(), samples=samples)


def _parse(body: bytes) -> Samples:
    """Return the samples of a response; none if it is no text of Prometheus."""
    try:
        return parse_samples(body.decode())
    except ValueError:
        return {}
