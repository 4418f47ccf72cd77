"""Detection of poolers and of the options that they drop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url

from ops.levels import Level
from tests.fakes.pooler import Pooler
from tests.ops.doctor.conftest import DoctorInstall


@pytest.fixture
def url(shared_url: str) -> str:
    """Share the database, which these tests do not change."""
    return shared_url


@pytest.fixture
def pooled(url: str) -> Iterator[Callable[[bool], str]]:
    """Return a function that starts a pooler for the database and returns its URL."""
    server = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with ExitStack() as stack:

        def put(transaction: bool) -> str:
            pooler = stack.enter_context(Pooler(server, transaction=transaction))
            return make_url(url).set(host="127.0.0.1", port=pooler.port).render_as_string(hide_password=False)

        yield put


@pytest.mark.parametrize("transaction", [True, False])
def test_pooler_of_each_mode_is_found(
    make_install: Callable[..., DoctorInstall], pooled: Callable[[bool], str], transaction: bool
) -> None:
    install = make_install(database={"url": pooled(transaction), "pool_size": 1, "max_overflow": 0})
    (finding,) = install.run_check("connection.pooler").findings
    assert finding.level is Level.WARNING
    assert finding.message.startswith("DATABASE_URL goes through a pooler")
    assert str(finding.remedy).startswith("Set DATABASE_DIRECT_URL")


def test_direct_url_through_a_pooler_is_found(
    make_install: Callable[..., DoctorInstall], url: str, pooled: Callable[[bool], str]
) -> None:
    (finding,) = make_install(database={"url": url, "direct_url": pooled(True)}).run_check("connection.pooler").findings
    assert finding.message.startswith("DATABASE_DIRECT_URL goes through a pooler")


def test_pooler_with_a_direct_url_is_ok(
    make_install: Callable[..., DoctorInstall], url: str, pooled: Callable[[bool], str]
) -> None:
    install = make_install(database={"url": pooled(True), "direct_url": url})
    for check in ("pooler", "same_database", "reachable", "privileges"):
        assert install.run_check(f"connection.{check}").level is Level.OK, check


def test_dropped_settings_are_found_and_written(
    make_install: Callable[..., DoctorInstall], url: str, pooled: Callable[[bool], str]
) -> None:
    install = make_install(database={"url": pooled(True), "direct_url": url})
    (finding,) = install.run_check("connection.settings").findings
    assert finding.level is Level.WARNING
    timeout = finding.evidence["statement_timeout"]
    assert (timeout["expected"], timeout["actual"]) == ("15000", "0")
    assert finding.remedy == "flask ops database settings"
    planned = install.call("database", "settings", "--dry-run")
    assert planned.exit_code == 0
    assert "statement_timeout" in planned.stdout
    assert install.call("database", "settings").exit_code == 64  # without a terminal, --yes is needed
    written = install.call("database", "settings", "--yes")
    assert written.exit_code == 0, written.output
    assert "RESET statement_timeout" in written.stderr
    assert "RECONNECT" in written.stderr
    assert install.call("audit", "--action", "database.settings").stdout.count("database.settings") >= 1
    (older,) = install.run_check("connection.settings").findings
    assert "RECONNECT" in str(older.remedy)
    assert (
        make_install(database={"url": pooled(True), "direct_url": url}).run_check("connection.settings").level
        is Level.OK
    )
    assert '"changes": []' in install.call("database", "settings", "--dry-run", "--json").stdout
    install.run(f'ALTER ROLE CURRENT_USER IN DATABASE "{make_url(url).database}" RESET ALL')


@pytest.mark.parametrize(
    ("target", "setting", "value"),
    [
        ('ROLE CURRENT_USER IN DATABASE "{}"', "default_transaction_isolation", "serializable"),
        ('DATABASE "{}"', "enable_indexscan", "off"),
        ('ROLE CURRENT_USER IN DATABASE "{}"', "idle_session_timeout", "90s"),
        ('DATABASE "{}"', "search_path", "elsewhere"),
        ('ROLE CURRENT_USER IN DATABASE "{}"', "random_page_cost", "1000000"),
        ('DATABASE "{}"', "enable_partition_pruning", "off"),
        ('DATABASE "{}"', "xmlbinary", "hex"),
    ],
)
def test_settings_of_role_and_database_are_found_and_reset(
    make_install: Callable[..., DoctorInstall], url: str, target: str, setting: str, value: str
) -> None:
    install = make_install()
    assert install.run_check("connection.settings").level is Level.OK
    install.run(f"ALTER {target.format(make_url(url).database)} SET {setting} = '{value}'")
    (finding,) = make_install().run_check("connection.settings").findings
    assert list(finding.evidence) == [setting]
    assert finding.evidence[setting]["written"] == value
    install.run(*str(finding.sql).splitlines())
    assert make_install().run_check("connection.settings").level is Level.OK


def test_options_of_the_url_are_found(make_install: Callable[..., DoctorInstall], url: str) -> None:
    changed = (
        make_url(url).update_query_dict({"options": "-c enable_seqscan=off"}).render_as_string(hide_password=False)
    )
    (finding,) = make_install(database={"url": changed}).run_check("connection.settings").findings
    assert finding.evidence["enable_seqscan"]["actual"] == "off"
    assert "options" in str(finding.remedy)
