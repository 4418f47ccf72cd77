"""The advice of every finding: followed literally it fixes the fault, or it is worded as a question."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from ops.checks.findings import Finding
from ops.doctor.schema_differences import Difference
from tests.ops.doctor.advice.elsewhere import ELSEWHERE, NOT_RUN
from tests.ops.doctor.advice.faults import FAULTS, Fault
from tests.ops.doctor.advice.following import COMMAND, follow
from tests.ops.doctor.advice.sites import PASSING, PROJECT, all_sites
from tests.ops.doctor.conftest import DoctorInstall

SITES = {site.name: site for site in all_sites()}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Record the place in the code of each finding, by the identity of its message."""
    places: dict[int, str] = {}
    by_place = {(site.path, site.line): site.name for site in SITES.values()}
    differences: dict[str, str] = {}

    def recording(kind: Any) -> Callable[..., None]:
        create = kind.__init__

        def init(self: Any, **values: Any) -> None:
            create(self, **values)
            frame = sys._getframe(1)
            while frame.f_code.co_name in PASSING and frame.f_back is not None:
                if self.message in differences:
                    places[id(self.message)] = differences[self.message]
                    return
                frame = frame.f_back
            place = (str(Path(frame.f_code.co_filename).relative_to(PROJECT)), frame.f_lineno)
            if place in by_place:
                places[id(self.message)] = by_place[place]
                if kind is Difference:
                    differences[self.message] = by_place[place]

        return init

    for kind in (Finding, Difference):
        monkeypatch.setattr(kind, "__init__", recording(kind))
    return places


def test_every_finding_is_followed_or_asks() -> None:
    """A new finding needs a fault in faults.py, or a test in `ELSEWHERE`, or a remedy that asks the operator."""
    followed = {fault.site for fault in FAULTS} | set(ELSEWHERE) | set(NOT_RUN)
    assert [site.name for site in SITES.values() if site.name not in followed and not site.asks] == []
    assert sorted(followed - set(SITES)) == [], "these places do not exist any more"


def test_every_finding_names_its_object() -> None:
    """An acknowledgement refers to it, and would cover other findings of the check without it."""
    assert [site.name for site in SITES.values() if not site.has_object] == []


def test_advice_that_is_not_run_has_no_command() -> None:
    assert [name for name in NOT_RUN if SITES[name].has_statement] == []
    assert [name for name in NOT_RUN if any(COMMAND.search(text) for text in SITES[name].texts)] == []
    assert all(NOT_RUN.values())


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_test_that_follows_the_advice_exists(name: str) -> None:
    path, _, function = ELSEWHERE[name].partition("::")
    assert re.search(rf"^def {function}\(", (PROJECT / "tests" / path).read_text(), re.MULTILINE), ELSEWHERE[name]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.site}-{FAULTS.index(fault)}")
def test_advice_fixes_the_fault(
    make_install: Callable[..., DoctorInstall], recorded: dict[int, str], fault: Fault
) -> None:
    install = make_install()
    if install.value("SELECT current_setting('server_version_num')::int / 10000") < fault.since:
        pytest.skip(f"this fault needs PostgreSQL {fault.since}")
    name = f'"{make_url(install.url).database}"'
    install.run(*(statement.replace("{database}", name) for statement in fault.statements))
    settings = {group: dict(values) for group, values in fault.settings.items()}
    settings["database"] = {"url": install.url, **settings.get("database", {})}
    findings = found_at(make_install(**settings), fault, recorded)
    assert findings, "the check did not find the fault"
    for finding in findings:
        follow(install, finding)
    assert found_at(make_install(**settings), fault, recorded) == []


def found_at(install: DoctorInstall, fault: Fault, recorded: dict[int, str]) -> list[Finding]:
    result = install.run_check(fault.check)
    assert "check itself failed" not in str(result.reason)
    return [finding for finding in result.findings if recorded.get(id(finding.message)) == fault.site]
