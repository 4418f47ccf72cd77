"""Settings of a role, a database or the server that would change the outcome of Parley's statements."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, make_url, text

from app.config import load_settings
from app.database import autocommit, current_engines, make_engine
from app.errors import SettingsError
from app.session_settings import SessionSetting, session_settings
from tests.database import migrated_database
from tests.factories import insert_user
from tests.settings import default_settings

SETTINGS = session_settings(default_settings().database)
# A value with the worst outcome; otherwise another one is chosen from what PostgreSQL allows.
HOSTILE = {
    "search_path": "pg_catalog",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1",
    "transaction_timeout": "1",
    "lock_timeout": "1",
    "idle_session_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
}


@pytest.fixture(scope="module")
def url(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Create a migrated database whose settings the tests change. Yields its URL."""
    with migrated_database(postgres, f"parley_hostile_{tmp_path_factory.mktemp('x').parent.name[-20:]}") as url:
        yield url


@pytest.fixture(scope="module")
def version(url: str) -> int:
    """Return the major version of the server."""
    engine = make_engine(url)
    with engine.connect() as connection:
        number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    engine.dispose()
    return number // 10_000


@pytest.fixture(scope="module")
def hostile_url(url: str, version: int) -> str:
    """Give every declared setting another value, for the role in the database."""
    engine = make_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in SETTINGS:
            if setting.since <= version:
                value = HOSTILE.get(setting.name) or _other_value(connection, setting)
                role, database = connection.engine.url.username, connection.engine.url.database
                connection.exec_driver_sql(
                    f'ALTER ROLE "{role}" IN DATABASE "{database}" SET {setting.name} = \'{value}\''
                )
    engine.dispose()
    return url


def _other_value(connection: Connection, setting: SessionSetting) -> str:
    row = connection.execute(
        text("SELECT vartype, enumvals, min_val FROM pg_settings WHERE name = :name"), {"name": setting.name}
    ).one()
    if row.vartype == "bool":
        return "off" if setting.value == "on" else "on"
    if row.vartype == "enum":
        return next(str(value) for value in row.enumvals if value != setting.value)
    return "1" if setting.value != "1" else str(row.min_val)


def test_declared_settings_are_settable_by_ordinary_roles(url: str, version: int) -> None:
    engine = make_engine(url)
    with engine.connect() as connection:
        contexts = {row.name.lower(): row.context for row in connection.exec_driver_sql("SELECT * FROM pg_settings")}
    engine.dispose()
    known = [setting for setting in SETTINGS if setting.since <= version]
    assert {contexts[setting.name.lower()] for setting in known} == {"user"}


@pytest.mark.parametrize("name", ["main", "heartbeats"])
def test_direct_connection_has_the_declared_settings(
    make_chat_app: Callable[..., Flask], hostile_url: str, version: int, name: str
) -> None:
    flask_app = make_chat_app(database={"url": hostile_url})
    with flask_app.app_context(), autocommit(current_engines()[name]) as connection:
        actual = {row.name.lower(): row.setting for row in connection.exec_driver_sql("SELECT * FROM pg_settings")}
    different = {
        setting.name: actual[setting.name.lower()]
        for setting in SETTINGS
        if setting.since <= version and not setting.matches(actual[setting.name.lower()])
    }
    assert different == {}


def test_chat_works_with_hostile_settings(make_chat_app: Callable[..., Flask], hostile_url: str) -> None:
    flask_app = make_chat_app(database={"url": hostile_url})
    with flask_app.app_context():
        user = insert_user(flask_app, current_engines()["main"])
    client = flask_app.test_client()
    for number in range(3):
        answer = client.post("/api/chat", json={"message": f"wörd {number}"}, headers=user.headers)
        assert answer.status_code == 200, answer.text
    assert client.get("/api/conversations", headers=user.headers).status_code == 200


def test_options_in_url_take_precedence(make_chat_app: Callable[..., Flask], hostile_url: str) -> None:
    url = make_url(hostile_url).update_query_dict({"options": "-c work_mem=7MB -c statement_timeout=77000"})
    flask_app = make_chat_app(database={"url": url.render_as_string(hide_password=False)})
    with flask_app.app_context(), autocommit() as connection:
        assert connection.exec_driver_sql("SHOW work_mem").scalar_one() == "7MB"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "77s"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "5s"


@pytest.mark.parametrize(
    ("given", "stored"),
    [('"$user",public', '"$user", public'), ("chat", "chat"), ('"My Chat" , public', '"My Chat", public')],
)
def test_search_path_is_normalized(monkeypatch: pytest.MonkeyPatch, given: str, stored: str) -> None:
    monkeypatch.setenv("DB_SEARCH_PATH", given)
    assert load_settings(env_file=None).database.search_path == stored


@pytest.mark.parametrize("given", ["a b", "a;b", "a,", "A", '"a', "a -c x=y", "a\\ b"])
def test_search_path_rejects_anything_but_names(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("DB_SEARCH_PATH", given)
    with pytest.raises(SettingsError, match="names of schemas"):
        load_settings(env_file=None)


def test_search_path_names_the_schema_of_the_tables(make_chat_app: Callable[..., Flask], url: str) -> None:
    flask_app = make_chat_app(database={"url": url, "search_path": '"My Chat", public'})
    with flask_app.app_context(), autocommit() as connection:
        connection.exec_driver_sql('CREATE SCHEMA "My Chat"')
        assert connection.exec_driver_sql("SELECT current_schema()").scalar_one() == "My Chat"


def test_declaration_names_each_setting_once() -> None:
    names = [setting.name.lower() for setting in SETTINGS]
    assert len(names) == len(set(names))
    assert Path("app/session_settings.py").read_text().count("default_transaction_isolation") == 1
