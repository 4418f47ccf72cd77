"""Metrics of the database server, as the job measures them."""

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.metrics import database, external_gauges
from ops.stats.measure import measure
from tests.metrics.scrape import here


def test_measure_records_sizes_connections_and_transactions(flask_app: Flask, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.05)")  # its transaction stays open
        with flask_app.app_context():
            report = measure()
        seen = here()
    assert report.database_bytes == seen.value("db_size_bytes") > 1_000_000
    assert report.tables == len(seen.labels("db_table_size_bytes", "table")) > 15
    assert {"users", "messages", "turns"} <= seen.labels("db_table_rows", "table")
    assert seen.labels("db_connections", "state") == set(database.CONNECTION_STATES)
    assert seen.value("db_connections", state="idle_in_transaction") >= 1
    assert seen.value("db_connections_max") >= 20
    assert seen.value("db_oldest_transaction_seconds") >= 0.05
    assert 0 < seen.value("db_transaction_ids_used_ratio") < 0.01
    assert seen.value("db_block_reads_total", source="cache") > 0
    assert seen.value("db_transactions_total", outcome="committed") > 0
    assert 0 < seen.value("disk_free_bytes", place="home") < seen.value("disk_size_bytes", place="home")
    assert report.home_free_bytes == seen.value("disk_free_bytes", place="home")


def test_only_the_largest_tables_are_exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_gauges, "_own", {})
    tables = {
        f"t{number}": database.TableMeasures(bytes=number, index_bytes=0, live_rows=1, dead_rows=2)
        for number in range(database.MAX_TABLES + 50)
    }
    database.record_database(
        database.DatabaseMeasures(
            bytes=1,
            tables=tables,
            connections={"active": 3},
            max_connections=10,
            oldest_transaction_seconds=0,
            transaction_ids_used=0.1,
            blocks_from_cache=1,
            blocks_from_disk=1,
            deadlocks=0,
            committed=1,
            rolled_back=0,
        )
    )
    seen = here()
    assert len(seen.labels("db_table_size_bytes", "table")) == database.MAX_TABLES
    assert "t0" not in seen.labels("db_table_size_bytes", "table")
    assert seen.value("db_connections", state="idle") == 0
