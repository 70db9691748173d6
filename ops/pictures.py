"""The pictures of the README, taken from a live installation: `.venv/bin/python ops/pictures.py`.

Needs what `make test` installs: Chromium and Kamailio. Writes docs/images.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.cast import PASSWORD, PLATFORM  # noqa: E402  after the path is set
from tests.conftest import program  # noqa: E402
from tests.e2e import steps  # noqa: E402
from tests.e2e.furnish import Furnished, furnish  # noqa: E402
from tests.e2e.installation import Installation  # noqa: E402
from tests.e2e.line import Line  # noqa: E402
from tests.integration.kamailio.registrar import KamailioRegistrar  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SECRET = "account-at-the-pbx"  # noqa: S105 - of a PBX that lives for this picture
STAFF = {"101": "Front desk", "102": "Workshop", "103": "Ada Lovelace", "104": "Grace Hopper"}
SIZE = {"width": 1200, "height": 780}
CALLS = ("101", "103", "101", "102")


def take(page: Page, acme: Furnished) -> None:
    for name, path in (("overview", ""), ("connection", f"connections/{acme.connection}")):
        page.goto(acme.path(path))
        page.wait_for_timeout(1500)
        page.screenshot(path=IMAGES / f"{name}.png")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    accounts = {"acme.pbx.example": dict.fromkeys(STAFF, SECRET)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Installation(Path(folder) / "live") as live,
        KamailioRegistrar(Path(folder) / "pbx", accounts) as pbx,
        Line() as line,
        sync_playwright() as playwright,
    ):
        acme = furnish(live.cast, "acme", pbx, SECRET, STAFF)
        for extension, password in acme.passwords.items():
            line.registered(extension, acme.domain, password, live.edge)
        caller = line.caller()
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=flags)
        page = browser.new_page(base_url=live.base, viewport=SIZE, reduced_motion="reduce")
        steps.sign_in(page, f"alice@{PLATFORM}", PASSWORD)
        page.wait_for_timeout(2000)  # the registrations at the PBX
        for extension in CALLS:
            line.call(caller, pbx.hop(), f"{extension}@acme.pbx.example")
        page.wait_for_timeout(2000)  # the call records
        take(page, acme)


if __name__ == "__main__":
    main()
