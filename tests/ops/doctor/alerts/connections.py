"""Faults of the connection, the pool and of sessions."""

import time
from collections.abc import Generator
from datetime import timedelta

from sqlalchemy import make_url

from ops.doctor.checks import connection, encryption, replication, transactions
from tests.ops.doctor.alerts.site import Site, fault
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.test_transactions import idle_in_transaction, waiting_session

Steps = Generator[DoctorInstall | None, None, None]
NOW = timedelta()


@fault("connection.reachable")
def unreachable(site: Site) -> Steps:
    wire, url = site.proxy(site.url)
    yield site.make(database={"url": url, "direct_url": site.url})
    wire.cut()
    yield None


@fault("connection.version")
def old_version(site: Site) -> Steps:
    """Require a newer PostgreSQL, as an upgrade of Parley may: no old one can be had here."""
    yield site.make()
    site.patch.setattr(connection, "MIN_VERSION", 99)
    yield None


@fault("connection.writable")
def read_only(site: Site) -> Steps:
    install = site.make()
    yield install
    install.run(f"ALTER DATABASE {site.database} SET default_transaction_read_only = on")
    yield site.make()


@fault("connection.latency")
def slow_network(site: Site) -> Steps:
    wire, url = site.proxy(site.url)
    site.patch.setattr(connection, "VERY_SLOW", timedelta(seconds=0.5))  # a busy machine is slow itself
    yield site.make(database={"url": url})
    wire.slow_down(0.6)
    yield None
    wire.slow_down(0)


@fault("connection.clock")
def wrong_clock(site: Site) -> Steps:
    yield site.make()
    now = time.time
    site.patch.setattr(time, "time", lambda: now() + 60)
    yield None


@fault("connection.encryption")
def public_network(site: Site) -> Steps:
    """Replace the server's address by a public one: none can be reached here."""
    yield site.make()
    site.patch.setattr(encryption, "peer_address", lambda _: "203.0.114.7")
    yield None


@fault("connection.same_database")
def other_database(site: Site) -> Steps:
    yield site.make(database={"url": site.url, "direct_url": site.url})
    elsewhere = make_url(site.url).set(database="postgres").render_as_string(hide_password=False)
    yield site.make(database={"url": site.url, "direct_url": elsewhere})


@fault("connection.role")
def expired_role(site: Site) -> Steps:
    owner = site.make()
    role, url = site.role(owner)
    owner.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    yield site.make(database={"url": url, "direct_url": site.url})
    owner.run(f"ALTER ROLE {role} VALID UNTIL '2020-01-01'")
    yield None


@fault("connection.privileges")
def missing_privileges(site: Site) -> Steps:
    owner = site.make()
    role, url = site.role(owner)
    owner.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    yield site.make(database={"url": url, "direct_url": site.url})
    owner.run(f"REVOKE INSERT ON messages FROM {role}")
    yield None


@fault("pool.in_use")
def used_connections(site: Site) -> Steps:
    owner = site.make()
    role, url = site.role(owner)
    yield site.make(database={"url": url})
    owner.run(f"ALTER ROLE {role} CONNECTION LIMIT 2")
    user = make_url(url)
    owner.open(username=user.username, password=user.password)
    yield None


@fault("transactions.blocked")
def blocked_session(site: Site) -> Steps:
    install = site.make()
    yield install
    site.patch.setattr(transactions, "BLOCKED", NOW)
    site.patch.setattr(transactions, "STUCK", NOW)
    idle_in_transaction(install, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, "SELECT FROM users"):
        yield None


@fault("transactions.long")
def long_transaction(site: Site) -> Steps:
    install = site.make()
    yield install
    site.patch.setattr(transactions, "LONG", NOW)
    site.patch.setattr(transactions, "VERY_LONG", NOW)
    idle_in_transaction(install, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, "SELECT FROM users"):
        yield None


@fault("transactions.idle")
def idle_transaction(site: Site) -> Steps:
    install = site.make()
    yield install
    site.patch.setattr(transactions, "IDLE", NOW)
    site.patch.setattr(transactions, "VERY_IDLE", NOW)
    idle_in_transaction(install, "SELECT 1")
    yield None


@fault("replication.prepared")
def abandoned_transaction(site: Site) -> Steps:
    install = site.own_server()
    yield install
    site.patch.setattr(replication, "PREPARED", NOW)
    site.patch.setattr(replication, "ABANDONED", NOW)
    install.run("CREATE TABLE things (id int)")
    install.run("BEGIN", "LOCK TABLE things", "PREPARE TRANSACTION 'abandoned'")
    yield None
    install.run("ROLLBACK PREPARED 'abandoned'")


@fault("replication.slots")
def inactive_slot(site: Site) -> Steps:
    install = site.own_server()
    yield install
    site.patch.setattr(replication, "WAL_BYTES", 0)
    site.patch.setattr(replication, "MUCH_WAL_BYTES", 0)
    install.run("SELECT pg_create_physical_replication_slot('abandoned', true)")
    yield None
    install.run("SELECT pg_drop_replication_slot('abandoned')")
