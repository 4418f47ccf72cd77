"""The rules of Prometheus: valid, and each alert fires, is quiet, resolves, and fires when its series vanish."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.metrics.chat import TURNS
from app.metrics.registry import METRICS
from ops.catalogue.alerts import ALERTS, Alert
from ops.catalogue.promql import series
from ops.doctor.registry import CHECKS
from ops.generate.prometheus import LONG_TESTS, RULES, TESTS, all_alerts, check_alerts
from ops.levels import Level

ROOT = Path(__file__).parents[2]
PROMTOOL = shutil.which("promtool")
SCRAPE_SECONDS = 30  # twice the interval of dashboards/prometheus/prometheus.yml

with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: install Debian's prometheus")


@with_promtool
@pytest.mark.parametrize("tests", [TESTS, LONG_TESTS])
def test_each_alert_fires_is_quiet_resolves_and_fires_without_its_series(tests: str) -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", Path(tests).name],
        cwd=(ROOT / tests).parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@with_promtool
def test_a_wrong_threshold_fails_the_tests(tmp_path: Path) -> None:
    rules = (ROOT / RULES).read_text()
    (tmp_path / "rules.yml").write_text(rules.replace("< 0.1", "< 0.001"))  # of the free disk
    shutil.copy(ROOT / TESTS, tmp_path / "rules_test.yml")
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode != 0
    assert "ParleyDiskNearlyFull" in done.stdout + done.stderr


def test_every_critical_check_has_an_alert_with_its_runbook() -> None:
    critical = [check for check in CHECKS if check.severity is Level.CRITICAL]
    assert [alert.runbook for alert in check_alerts()] == [check.runbook for check in critical]


@pytest.mark.parametrize("alert", all_alerts(), ids=lambda alert: alert.name)
def test_alert_names_who_is_affected_a_runbook_and_declared_metrics(alert: Alert) -> None:
    assert alert.affected.endswith(".")
    assert alert.summary.endswith((".", "?"))
    assert (ROOT / alert.runbook).is_file()
    names = set(re.findall(r"\bparley_\w+", alert.expr))
    plain = {re.sub("_(bucket|count|sum)$", "", name) if name not in METRICS else name for name in names}
    assert plain <= set(METRICS)


@pytest.mark.parametrize("alert", all_alerts(), ids=lambda alert: alert.name)
def test_single_failed_scrape_fires_nothing(alert: Alert) -> None:
    """It makes all series vanish until the next one, and many alerts fire for a vanished series."""
    number, unit = int(alert.duration[:-1]), alert.duration[-1]
    assert number * {"m": 60, "h": 3600, "d": 86_400}[unit] >= 2 * SCRAPE_SECONDS


def test_alert_names_are_unique() -> None:
    names = [alert.name for alert in all_alerts()]
    assert len(names) == len(set(names))
    assert len(ALERTS) >= 20


def test_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="parley_turns_total has no label outcome"):
        series(TURNS, outcome="completed")


def test_rules_are_one_group_in_which_recorded_series_come_first() -> None:
    [group] = yaml.safe_load((ROOT / RULES).read_text())["groups"]
    kinds = ["record" if "record" in rule else "alert" for rule in group["rules"]]
    assert kinds == sorted(kinds, reverse=True)
