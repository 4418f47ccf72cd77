"""Headless Chromium, and the chat page on an origin of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # the name of the base class
        """Log nothing."""


@contextmanager
def served_examples() -> Iterator[str]:
    """Serve `docs/examples` and yield its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(EXAMPLES))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Start a headless Chromium with its profile in a folder."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,800"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER, env={"PATH": "/usr/bin:/bin", "HOME": str(profile)}))
    try:
        yield driver
    finally:
        driver.quit()


class ChatPage:
    """The chat page in one tab, as a person uses it."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.tab = driver.current_window_handle

    def select(self) -> "ChatPage":
        """Make its tab the active one."""
        self.driver.switch_to.window(self.tab)
        return self

    def click(self, selector: str) -> None:
        """Click the first element that matches, when it is shown."""

        def shown() -> bool:
            found = self.driver.find_elements(By.CSS_SELECTOR, selector)
            return bool(found) and found[0].is_displayed()

        wait_until(shown, f"no {selector}")
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def log_in(self, email: str, password: str, *, name: str = "") -> None:
        """Log in, or register with a name."""
        wait_until(lambda: self.is_shown("login"), "no login form")
        for field, value in {"email": email, "password": password, "name": name}.items():
            element = self.driver.find_element(By.NAME, field)
            element.clear()
            element.send_keys(value)
        self.click("#login [value=register]" if name else "#login [value=login]")

    def send(self, text: str) -> None:
        field = self.driver.find_element(By.NAME, "message")
        field.clear()
        field.send_keys(text, Keys.ENTER)

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def is_shown(self, identifier: str) -> bool:
        return bool(self.driver.find_element(By.ID, identifier).is_displayed())

    def texts(self, selector: str) -> list[str]:
        """Return the text content of all elements that match."""
        source = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)"
        return list(self.script(source, selector))

    def answers(self) -> list[str]:
        """Return the texts of all answers, without notes."""
        source = "return [...document.querySelectorAll('article.assistant')].map((element) => element.firstChild.data)"
        return list(self.script(source))

    def error(self) -> str:
        return str(self.texts("#error")[0])

    def wait_for_end(self) -> None:
        """Wait until no answer is running."""
        wait_until(lambda: self.is_shown("send") and not self.is_shown("stop"), "the answer does not end")
