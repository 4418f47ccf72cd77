"""The chat page of docs/examples in headless Chromium, on another origin than its server."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask
from selenium.webdriver import Chrome
from sqlalchemy import Engine, text

from tests.clients.browser import CHROMIUM, DRIVER, ChatPage, chromium, served_examples
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.proxy import Proxy
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("chat_page"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium is not installed (Debian: chromium chromium-driver)"
    ),
]

PASSWORD = "correct horse battery"
ANSWER = scripts.words(30, pause=0.06)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with served_examples() as origin:
        yield origin


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(ANSWER) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(
    flask_app: Flask, database_url: str, origin: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    provider = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url}
    settings = {**provider, "CORS_ORIGINS": origin, "WEB_WORKERS": "2"}
    home: Path = tmp_path_factory.mktemp("chat-page")
    with WebServer(home, DATABASE_URL=database_url, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: WebServer) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def url(origin: str, proxy: Proxy) -> str:
    return f"{origin}/chat.html?server=http://127.0.0.1:{proxy.port}"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Chrome]:
    with chromium(tmp_path) as driver:
        yield driver


@pytest.fixture
def page(driver: Chrome, url: str, email: str) -> ChatPage:
    """Return the page of a new user."""
    page = ChatPage(driver, url)
    page.log_in(email, PASSWORD, name="Ada")
    wait_until(lambda: page.is_shown("send"), page.error)
    return page


@pytest.fixture
def email() -> str:
    return f"page-{uuid4()}@example.org"


def stored_messages(engine: Engine, email: str) -> list[tuple[str, str]]:
    """Return role and content of all messages of a user, in order."""
    statement = """SELECT messages.role, content FROM messages JOIN users ON users.id = user_id
WHERE email = :email ORDER BY position"""
    with engine.connect() as connection:
        return [(row.role, row.content) for row in connection.execute(text(statement), {"email": email})]


def expire_access_token(page: ChatPage) -> None:
    """Make the stored access token invalid, as an expired one is."""
    page.script(
        "const [key] = Object.keys(localStorage); const tokens = JSON.parse(localStorage[key]);"
        "localStorage[key] = JSON.stringify({...tokens, access_token: tokens.access_token + 'x'})"
    )


def access_token(page: ChatPage) -> str:
    return str(page.script("return JSON.parse(Object.values(localStorage)[0]).access_token"))


def test_answer_appears_in_pieces_and_is_stored(page: ChatPage, engine: Engine, email: str) -> None:
    page.send("What is a heat pump?")
    lengths: set[int] = set()
    while not lengths or page.is_shown("stop"):
        lengths |= {len(answer) for answer in page.answers()}
    assert len(lengths) > 3
    assert stored_messages(engine, email) == [("user", "What is a heat pump?"), ("assistant", page.answers()[0])]
    assert page.texts("#title") == ["What is a heat pump?"]
    wait_until(lambda: page.texts("#conversations button") == ["What is a heat pump?"], "the list has no conversation")
    page.send("And what costs one?")
    page.wait_for_end()
    assert [role for role, _ in stored_messages(engine, email)] == ["user", "assistant"] * 2
    severe = [entry for entry in page.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [entry["message"] for entry in severe if "favicon" not in entry["message"]] == []


def test_broken_connection_is_resumed_without_missing_or_doubled_text(
    page: ChatPage, proxy: Proxy, engine: Engine, email: str
) -> None:
    page.send("Describe heat pumps, at length, please.")
    wait_until(lambda: any(page.answers()), "no text")
    seen = page.answers()[0]
    proxy.cut()
    wait_until(lambda: page.texts("#state") == ["Waiting for the server …"], "the page does not notice")
    proxy.repair()
    page.wait_for_end()
    [_, (_, content)] = stored_messages(engine, email)
    assert page.answers() == [content]
    assert content.startswith(seen)
    assert page.error() == ""


def test_message_whose_response_is_lost_is_stored_once(
    page: ChatPage, proxy: Proxy, engine: Engine, email: str
) -> None:
    proxy.drop_reply_to(b"only once")
    page.send("only once")
    wait_until(lambda: any(page.answers()), "no text")
    page.wait_for_end()
    assert [role for role, _ in stored_messages(engine, email)] == ["user", "assistant"]
    assert page.answers() == [stored_messages(engine, email)[1][1]]


def test_stopped_answer_is_stored_and_can_run_again(page: ChatPage, url: str, engine: Engine, email: str) -> None:
    page.send("Stop this one, please, before all of its words have come.")
    wait_until(lambda: any(page.answers()), "no text")
    page.click("#stop")
    page.wait_for_end()
    assert page.texts("article.assistant small") == ["Stopped."]
    [_, (_, partial)] = stored_messages(engine, email)
    assert page.answers() == [partial]
    page.click("#retry")
    wait_until(lambda: len(page.answers()) == 2, "no second answer")
    page.wait_for_end()
    [*_, (_, content)] = stored = stored_messages(engine, email)
    assert [role for role, _ in stored] == ["user", "assistant", "assistant"]
    assert page.answers() == [partial, content]
    page.driver.get(url)
    page.click("#conversations button")
    wait_until(lambda: page.answers() == [partial, content], page.error)
    assert page.texts("article.assistant small") == ["Stopped."]


def test_reloaded_page_shows_rest_of_running_answer(page: ChatPage, url: str, engine: Engine, email: str) -> None:
    page.send("What remains of this after a reload, when nothing is kept but the tokens?")
    wait_until(lambda: any(page.answers()), "no text")
    page.driver.get(url)
    page.click("#conversations button")
    wait_until(lambda: any(page.answers()), "no text after the reload")
    assert page.is_shown("stop")
    page.wait_for_end()
    assert page.answers() == [stored_messages(engine, email)[1][1]]
    assert page.error() == ""


def test_tabs_with_expired_token_stay_logged_in(page: ChatPage, url: str, driver: Chrome) -> None:
    expire_access_token(page)
    expired = access_token(page)
    tabs = [page]
    for _ in range(4):
        driver.switch_to.new_window("tab")
        tabs.append(ChatPage(driver, url))
    for tab in tabs:
        tab.select().click("#new")
        tab.send("hello")
        wait_until(lambda tab=tab: any(tab.answers()), tab.error)
        tab.wait_for_end()
        assert (tab.is_shown("login"), tab.error()) == (False, "")
    assert len({access_token(tab.select()) for tab in tabs}) == 1
    assert access_token(page) != expired


def test_tabs_that_refresh_at_once_stay_logged_in(page: ChatPage, url: str, driver: Chrome) -> None:
    page.send("hello")
    page.wait_for_end()
    tabs = [page]
    for _ in range(4):
        driver.switch_to.new_window("tab")
        tabs.append(ChatPage(driver, url))
        wait_until(lambda tab=tabs[-1]: len(tab.texts("#conversations button")) == 1, "no list")
    tabs[0].select().click("#new")
    expire_access_token(page)
    expired = access_token(page)
    moment = page.script("return Date.now() + 3000")
    click = "setTimeout(() => document.querySelector('#conversations button').click(), arguments[0] - Date.now())"
    for tab in tabs:
        tab.select().script(click, moment)
    for tab in tabs:
        tab.select()
        wait_until(lambda tab=tab: len(tab.texts("article")) == 2, tab.error)
        assert (tab.is_shown("login"), tab.error()) == (False, "")
    assert len({access_token(tab.select()) for tab in tabs} | {expired}) == 2


def test_logout_in_one_tab_logs_out_the_other(page: ChatPage, url: str, driver: Chrome) -> None:
    driver.switch_to.new_window("tab")
    other = ChatPage(driver, url)
    wait_until(lambda: other.is_shown("send"), "not logged in")
    page.select().click("#logout")
    other.select()
    wait_until(lambda: other.is_shown("login"), "still logged in")
    assert other.script("return localStorage.length") == 0


def test_failed_answer_shows_reason_and_can_run_again(
    page: ChatPage, upstream: Upstream, engine: Engine, email: str
) -> None:
    upstream.script = scripts.error_in_stream(after=3)
    try:
        page.send("Fail once.")
        wait_until(lambda: page.is_shown("retry"), page.error)
        [reason] = page.texts("article.assistant small")
        assert reason.startswith("The provider compatible could not reach its model (502).")
    finally:
        upstream.script = ANSWER
    page.click("#retry")
    wait_until(lambda: len(page.answers()) == 2, page.error)
    page.wait_for_end()
    assert [content for _, content in stored_messages(engine, email)] == ["Fail once.", *page.answers()]
    assert not page.is_shown("retry")


def test_errors_are_shown(page: ChatPage, proxy: Proxy, email: str) -> None:
    page.click("#logout")
    page.log_in(email, "not the password")
    wait_until(lambda: "password" in page.error(), page.error)
    page.log_in(email, PASSWORD)
    wait_until(lambda: page.is_shown("send"), page.error)
    proxy.cut()
    page.click("#new")
    page.script("document.querySelector('#more').onclick()")
    wait_until(lambda: "cannot be reached, or its CORS_ORIGINS lacks http://127.0.0.1:" in page.error(), page.error)
    proxy.repair()


def test_text_of_messages_is_no_markup(page: ChatPage) -> None:
    page.send("<img src=x onerror=document.title='markup'>")
    page.wait_for_end()
    assert page.texts("article.user") == ["<img src=x onerror=document.title='markup'>"]
    assert page.texts("article img") == []


def test_earlier_messages_and_conversations_are_paged(driver: Chrome, url: str, email: str, server: WebServer) -> None:
    def post(path: str, body: dict, token: str | None = None) -> dict:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return dict(server.http.request("POST", server.url + path, json=body, headers=headers).json())

    token = post("/api/auth/register", {"email": email, "password": PASSWORD, "name": "Ada"})["access_token"]
    messages = [{"role": ("user", "assistant")[number % 2], "content": f"message {number}"} for number in range(70)]
    for number in range(25):
        document = {"version": 1, "conversation": {"title": f"old {number}"}, "messages": messages}
        assert "id" in post("/api/conversations/import", document, token)
    page = ChatPage(driver, url)
    page.log_in(email, PASSWORD)
    wait_until(lambda: len(page.texts("#conversations button")) == 20, "no conversations")
    page.click("#more")
    wait_until(lambda: len(page.texts("#conversations button")) == 25, "no further conversations")
    page.click("#conversations button")
    wait_until(lambda: len(page.texts("article")) == 50, "no messages")
    page.script("document.querySelector('#earlier').click()")
    wait_until(lambda: len(page.texts("article")) == 70, "no earlier messages")
    assert page.texts("article") == [f"message {number}" for number in range(70)]
    assert not page.is_shown("earlier")
