"""Seals of the audit: what is sealed, what a change of the audit leads to, and the rotation of keys."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from app.ids import new_id
from ops.backup.create import create
from ops.backup.restore import restore
from ops.backup.switch import switch
from ops.checks.run import CheckResult
from ops.levels import Level
from ops.runs import audit_seals
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.runs.audit_seals import SealReport, seal_audit
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.installation import run_sql
from tests.waiting import wait_until

ACTOR = Actor(kind="command", name="operator@host")
INSERT = """
INSERT INTO audit_events (id, actor_kind, actor, action, result, ended_at, created_at)
SELECT %(id)s, 'command', 'operator@host', 'user.disable', 'done', t.at, t.at
  FROM (SELECT now() + %(late)s::interval AS at) AS t
RETURNING id"""


def act(install: DoctorInstall, number: int = 1, **details: Any) -> None:
    with install.flask_app.app_context():
        for _ in range(number):
            with audited(actor=ACTOR, action="user.disable", target="a user", details=details):
                pass


def seal(install: DoctorInstall) -> SealReport:
    """Seal everything that has ended."""
    with install.flask_app.app_context():
        return seal_audit(grace_seconds=0)


def check(install: DoctorInstall, check_id: str = "audit.seals") -> CheckResult:
    return install.run_check(check_id)


def messages(install: DoctorInstall) -> list[str]:
    """Return the findings of both checks, which must agree, without their common beginning."""
    found = [
        [finding.message for finding in check(install, name).findings] for name in ("audit.seals", "audit.history")
    ]
    assert found[0] == found[1]
    return [message.removeprefix("The audit was changed: ").rstrip(".") for message in found[0]]


def ids(install: DoctorInstall) -> list[UUID]:
    return [UUID(str(row[0])) for row in install.run("SELECT id FROM audit_events ORDER BY id")]


def test_ended_events_are_sealed_once(install: DoctorInstall) -> None:
    act(install, 3)
    assert seal(install) == SealReport(seals=1, events=3, newest=1, more=False)
    assert seal(install) == SealReport(seals=0, events=0, newest=1, more=False)
    act(install, 2)
    assert seal(install) == SealReport(seals=1, events=2, newest=2, more=False)
    assert check(install).level is Level.OK
    assert check(install, "audit.history").level is Level.OK


def test_recent_and_running_events_are_not_sealed_yet(install: DoctorInstall) -> None:
    act(install)
    with install.flask_app.app_context():
        assert seal_audit().events == 0  # within the grace
        with audited(actor=ACTOR, action="backup.create"):
            assert seal_audit(grace_seconds=0).events == 1
        assert seal_audit(grace_seconds=0).events == 1
    assert messages(install) == []


def test_batches_are_chained(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_seals, "BATCH", 2)
    act(install, 5)
    assert seal(install) == SealReport(seals=3, events=5, newest=3, more=False)
    assert messages(install) == []
    assert install.run("SELECT seal, count(*)::int FROM audit_events GROUP BY seal ORDER BY seal") == [
        (1, 2), (2, 2), (3, 1)
    ]  # fmt: skip


def seal_events(install: DoctorInstall, events: int) -> None:
    """Seal until this many events are sealed: an older transaction of another test delays it."""
    sealed: list[int] = []

    def are_sealed() -> bool:
        sealed.append(seal(install).events)
        return sum(sealed) >= events

    wait_until(are_sealed)


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'other@host'",
        "actor_id = gen_random_uuid()",
        "address = '10.0.0.1'",
        "action = 'user.enable'",
        "target = NULL",
        "result = 'refused'",
        "reason = 'because'",
        "details = details || '{\"sessions\": 2}'",
        "details = details - 'steps'",
        "request_id = 'x'",
        "created_at = created_at - interval '1 microsecond'",
        "ended_at = ended_at + interval '1 microsecond'",
        "seal = NULL",
        "seal = 2",
        "seal = 99",
    ],
)
def test_changed_event_is_named(install: DoctorInstall, change: str) -> None:
    act(install, 3, steps=1)
    seal_events(install, 3)
    act(install, 1)
    seal_events(install, 1)
    chosen = ids(install)[1]
    install.run(f"UPDATE audit_events SET {change} WHERE id = '{chosen}'")
    assert check(install).level is Level.CRITICAL
    found = messages(install)
    assert any(str(chosen) in message for message in found), found
    assert seal(install).events == (1 if change == "seal = NULL" else 0)
    assert any(str(chosen) in message for message in messages(install))  # sealing again hides nothing


def test_missing_event_is_named(install: DoctorInstall) -> None:
    act(install, 3)
    seal(install)
    chosen = ids(install)[1]
    install.run(f"DELETE FROM audit_events WHERE id = '{chosen}'")
    assert messages(install) == [f"the event {chosen} of the seal 1 is missing"]


@pytest.mark.parametrize("sealed", ["NULL", "1", "7", "-1"])
def test_event_inserted_between_others_is_named(install: DoctorInstall, sealed: str) -> None:
    """It is a copy of an event with an id between two others, as a forger would insert it."""
    act(install, 3)
    seal(install)
    [first, second, _] = ids(install)
    forged = UUID(int=(first.int + second.int) // 2 & ~(0xF << 76) | 7 << 76)
    assert first < forged < second
    install.run(
        "INSERT INTO audit_events (id, actor_kind, actor, action, result, created_at, ended_at, seal)"
        f" SELECT '{forged}', actor_kind, 'forged', action, result, created_at, ended_at, {sealed}"
        f" FROM audit_events WHERE id = '{first}'"
    )
    assert any(str(forged) in message for message in messages(install)), messages(install)
    seal(install)
    assert any(str(forged) in message for message in messages(install))


def test_event_with_a_former_id_and_the_present_time_is_named(install: DoctorInstall) -> None:
    act(install)
    old = UUID(int=new_id().int - (7_200_000 << 80))  # two hours ago
    install.run(INSERT, id=str(old), late="0 seconds")
    seal(install)
    assert messages(install) == [f"the event {old} (user.disable) was inserted later than it claims"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM audit_seals WHERE number = 2", "1 of the seals 1 to 3 are missing"),
        ("UPDATE audit_seals SET sealed_at = sealed_at - interval '1 day' WHERE number = 2", "the seal 2 of"),
        ("UPDATE audit_seals SET complete_until = '2000-01-01' WHERE number = 2", "the seal 2 of"),
        ("UPDATE audit_seals SET hash = decode('00', 'hex') WHERE number = 2", "the seal 2 of"),
        ("UPDATE audit_seals SET event_ids = event_ids[2:], event_hashes = substr(event_hashes, 17)", "the seal 1 of"),
        ("DELETE FROM audit_seals WHERE number = 3", "(user.disable) was inserted later than it claims"),
        ("TRUNCATE audit_seals", "(user.disable) was inserted later than it claims"),
    ],
)
def test_changed_seals_are_found(install: DoctorInstall, statement: str, message: str) -> None:
    for _ in range(3):
        act(install, 2)
        seal(install)
    install.run(statement)
    assert any(message in found for found in messages(install)), messages(install)


def test_transaction_that_commits_late_is_in_the_next_seal(install: DoctorInstall) -> None:
    """Its id and its time are lower than those of events that are sealed before it."""
    writer, late = install.open(), new_id()
    writer.exec_driver_sql("BEGIN")
    writer.exec_driver_sql(INSERT, {"id": str(late), "late": "0 seconds"})
    act(install, 2)
    assert seal(install).events == 0  # the transaction is older than both
    writer.exec_driver_sql("COMMIT")
    assert late < ids(install)[-1]
    assert seal(install).events == 3
    assert messages(install) == []


def test_sealing_waits_for_no_insert_and_no_insert_for_sealing(install: DoctorInstall) -> None:
    """A seal is in progress, with its events marked, while another event is recorded."""
    act(install, 2)
    sealer = install.open()
    sealer.exec_driver_sql("BEGIN")
    sealer.exec_driver_sql("INSERT INTO audit_seals VALUES (1, now(), now(), 'x', '{}', '', '')")
    sealer.exec_driver_sql("UPDATE audit_events SET seal = 1")
    recorded = threading.Thread(target=act, args=(install,))
    recorded.start()
    recorded.join(60)
    assert not recorded.is_alive()
    sealer.exec_driver_sql("ROLLBACK")
    assert seal(install).events == 3


def test_action_longer_than_a_day_is_recorded_by_two_events(
    install: DoctorInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with install.flask_app.app_context(), audited(actor=ACTOR, action="index.apply", details={"a": 1}) as notes:
        monkeypatch.setattr(audit_seals, "LOST_SECONDS", 0)
        assert seal_audit(grace_seconds=0).events == 1
        monkeypatch.undo()
        notes["steps"] = 3
    [begun, ended] = install.run("SELECT id, result, details FROM audit_events ORDER BY id")
    assert (begun[1:], ended[1]) == (("begun", {"a": 1}), "done")
    assert ended[2] == {"a": 1, "steps": 3, "begun": str(begun[0])}
    assert seal(install).events == 1
    assert [message for message in messages(install) if "changed" in message] == []


def test_unsealed_events_are_a_warning(install: DoctorInstall) -> None:
    install.run(INSERT, id=str(new_id()), late="-90 minutes")
    result = check(install)
    assert result.level is Level.WARNING
    [finding] = result.findings
    assert finding.remedy == "flask ops jobs run audit.seal"
    done = install.call(*str(finding.remedy).split()[2:])
    assert done.exit_code == 0, done.output
    assert [finding.object for finding in check(install).findings if finding.object == "unsealed"] == []


KEYS = [SecretStr(letter * 2 + "-key-of-the-audit-for-its-tests-" + letter * 9) for letter in "abc"]


def test_key_is_rotated(make_install: Callable[..., DoctorInstall]) -> None:
    first = make_install(auth={"audit_key": KEYS[0]})
    act(first)
    seal(first)
    second = make_install(auth={"audit_key": KEYS[1], "audit_previous_keys": (KEYS[0],)})
    act(second)
    assert seal(second).newest == 2
    assert messages(second) == []
    current = make_install(auth={"audit_key": KEYS[1]})
    result = check(current)
    assert (result.level, result.findings) == (Level.UNKNOWN, ())
    assert "The keys of 1 seals are not set" in str(result.reason)
    assert "AUDIT_PREVIOUS_KEYS" in str(result.remedy)
    assert KEYS[0].get_secret_value() not in str(result)


def test_key_derived_from_the_signing_key_is_rotated_with_it(make_install: Callable[..., DoctorInstall]) -> None:
    first = make_install(auth={"jwt_secret_key": KEYS[0]})
    act(first)
    seal(first)
    for auth in (
        {"jwt_secret_key": KEYS[1], "jwt_previous_keys": (KEYS[0],)},
        {"jwt_secret_key": KEYS[1], "audit_previous_keys": (KEYS[0],)},
        {"jwt_secret_key": KEYS[0], "audit_key": KEYS[2]},
    ):
        assert messages(make_install(auth=auth)) == []


def test_seal_forged_without_the_key_is_found(make_install: Callable[..., DoctorInstall]) -> None:
    real = make_install(auth={"audit_key": KEYS[0]})
    act(real)
    seal(real)
    real.run("UPDATE audit_events SET actor = 'other@host', seal = NULL", "TRUNCATE audit_seals")
    seal(make_install(auth={"audit_key": KEYS[2]}))  # a forger has everything but the key
    assert check(real).level is Level.UNKNOWN
    real.run("UPDATE audit_seals SET key_id = %(id)s", id=audit_seals.current_key(real.settings.auth).id)
    assert any("the seal 1 of" in message for message in messages(real))


def test_backup_proves_that_the_newest_events_are_missing(
    make_install: Callable[..., DoctorInstall], tmp_path: Path
) -> None:
    """Both the events and their seal were deleted, which leaves no trace in the database."""
    install = make_install(backups={"url": tmp_path.as_uri()})
    act(install)
    seal(install)
    act(install)
    seal(install)
    with install.flask_app.app_context():
        name = create().name
    assert messages(install) == []
    install.run("DELETE FROM audit_events WHERE seal = 2", "DELETE FROM audit_seals WHERE number = 2")
    assert messages(install) == [f"the seal 2 is missing; the backup {name} has it"]
    act(install)
    seal(install)
    assert messages(install) == [f"the seal 2 is a different one; the backup {name} has it"]


def test_restore_and_switch_are_not_taken_for_a_change(
    make_install: Callable[..., DoctorInstall], tmp_path: Path
) -> None:
    """A backup that was taken after the restored one has seals that the restored database cannot have."""
    install = make_install(backups={"url": tmp_path.as_uri()})
    act(install)
    seal(install)
    database = str(make_url(install.url).database)
    other = f"{database}_restored"
    with install.flask_app.app_context():
        old = create().name
        act(install)
        seal(install)
        create()
        restored = restore(name=old, into=other)
        assert restored.ok, restored.problems
        install.owner.close()
        kept = switch(restored=other).kept
        names = [other, kept]
    try:
        with install.flask_app.app_context():
            assert [finding.message for finding in check(install).findings] == []
            act(install)
            seal(install)
            assert [finding.message for finding in check(install).findings] == []
            names.append(switch(restored=kept).kept)  # the way back
            assert [finding.message for finding in check(install).findings] == []
    finally:
        postgres = make_url(install.url).set(database="postgres").render_as_string(hide_password=False)
        run_sql(postgres, *(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in names))
