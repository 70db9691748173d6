"""Fixtures of the end-to-end tests: a live installation, a real Kamailio as the PBX, and watched browsers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, StorageState, expect

from tests.cast import PASSWORD, PLATFORM
from tests.conftest import program
from tests.e2e import steps, web_phone
from tests.e2e.bundle import bundle
from tests.e2e.furnish import Furnished, furnish
from tests.e2e.installation import Installation
from tests.e2e.line import Line
from tests.e2e.looks import WIDE
from tests.e2e.watch import Watch
from tests.integration.kamailio.registrar import KamailioRegistrar
from tests.integration.node import Node
from tests.unit.core import bench

SECRET = "account-at-the-pbx"
EXTENSIONS = ("101", "102", "103")
HOUSES = ("harbour-clinic", "quiet-keys", "acme", "globex")
"""Customers of the PBX, all with the same extensions."""
FLAGS = (
    "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update",
    "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
"""A quiet Chromium that knows this machine only."""
PATIENCE_MS = 15_000

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.needs("chromium", "kamailio"))


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium; root, as in a container, has no sandbox."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    return {**browser_type_launch_args, "executable_path": program("chromium"), "args": [*sandbox, *FLAGS]}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("live")) as running:
        yield running
    assert not running.faults()


@pytest.fixture(scope="session")
def base_url(installation: Installation) -> str:
    return installation.base


@pytest.fixture(scope="session")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KamailioRegistrar]:
    """One PBX address, a domain for each customer, the same extensions in each."""
    accounts = {f"{house}.pbx.example": dict.fromkeys(EXTENSIONS, SECRET) for house in HOUSES}
    with KamailioRegistrar(tmp_path_factory.mktemp("pbx"), accounts) as running:
        yield running


@pytest.fixture
def watch(installation: Installation) -> Iterator[Watch]:
    """Each test fails on errors in the console, failed requests, broken policies, and requests to other hosts."""
    watch = Watch(installation.base)
    yield watch
    watch.finish()


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any], base_url: str) -> dict[str, Any]:
    size = {"width": WIDE.width, "height": WIDE.height}
    return {**browser_context_args, "base_url": base_url, "viewport": size, "reduced_motion": "reduce"}


@pytest.fixture
def open_browser(watch: Watch, new_context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """A browser of its own, watched; its one page."""
    return lambda **options: watch.over(new_context(**options)).new_page()


@pytest.fixture
def page(open_browser: Callable[..., Page]) -> Page:
    """Nobody's browser."""
    return open_browser()


@pytest.fixture(scope="session")
def _signed_in() -> dict[str, StorageState]:
    return {}


@pytest.fixture
def as_cast(
    installation: Installation, open_browser: Callable[..., Page], _signed_in: dict[str, StorageState]
) -> Callable[[str], Page]:
    """A browser in which root, alice, bob or carol is signed in."""
    assert installation.cast

    def opened(name: str) -> Page:
        if name not in _signed_in:
            page = open_browser()
            steps.sign_in(page, f"{name}@{PLATFORM}", PASSWORD)
            _signed_in[name] = page.context.storage_state()
        return open_browser(storage_state=_signed_in[name])

    return opened


@pytest.fixture
def line() -> Iterator[Line]:
    with Line() as line:
        yield line


@pytest.fixture(scope="session")
def pictures(pytestconfig: pytest.Config) -> Path:
    """Where screenshots go."""
    return Path(pytestconfig.getoption("--output")) / "pictures"


@pytest.fixture(scope="session")
def acme(installation: Installation, pbx: KamailioRegistrar) -> Furnished:
    """The cast's organisation, live at the PBX."""
    return furnish(installation.cast, "acme", pbx, SECRET)


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A browser with a microphone, for phones in pages."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    browser = playwright.chromium.launch(executable_path=program("chromium"), args=[*sandbox, *web_phone.FLAGS])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def script() -> str:
    """The phone of such a page."""
    return f"(() => {{\n{bundle('jssip')}\n{web_phone.SCRIPT.read_text()}\n}})();"


@pytest.fixture
def open_phone(chromium: Browser, script: str, node: Node) -> Iterator[Callable[..., Page]]:
    """A page with a phone on it, registered unless told otherwise."""
    context = chromium.new_context(permissions=["microphone"], ignore_https_errors=True)
    context.route("**/*", lambda route: route.fulfill(body="<!doctype html><title>Phone</title>"))

    def open_it(extension: str, expect: str = "registered", origin: str = web_phone.ORIGIN, **extra: Any) -> Page:
        page = context.new_page()
        page.goto(origin)
        page.add_script_tag(content=script)
        settings = {"password": bench.PASSWORD, **extra}
        uri = f"sip:{extension}@acme.example"
        page.evaluate(
            "([url, uri, settings]) => phone.start(url, uri, settings.password, settings)",
            [f"wss://127.0.0.1:{node.web_port}", uri, settings],
        )
        web_phone.heard(page, expect)
        return page

    yield open_it
    context.close()
