"""What a page must not do while a test looks at it: log errors, fail requests, break its policy, talk to strangers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response

LISTEN = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
window.__shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    window.__shifts.push({value: entry.value, asked: entry.hadRecentInput, what: entry.sources.map((source) =>
      source.node?.outerHTML?.slice(0, 120) ?? source.node?.textContent?.slice(0, 60) ?? "?")});
}).observe({type: "layout-shift", buffered: true});
"""
"""Runs in each page before its own scripts."""


class Watch:
    """All contexts of one test; `faults` is empty when all went well."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.faults: list[str] = []
        self._expected: set[int] = set()

    def over(self, context: BrowserContext) -> BrowserContext:
        """Begin to watch."""
        context.add_init_script(LISTEN)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.faults.append(f"uncaught: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)
        context.on("requestfailed", self._failed)
        return context

    @contextmanager
    def expecting(self, *statuses: int) -> Iterator[None]:
        """These answers are what the test is about."""
        self._expected.update(statuses)
        yield
        self._expected.difference_update(statuses)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        refused = "Failed to load resource" in message.text
        if not (refused and any(f"status of {status} " in message.text for status in self._expected)):
            self.faults.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.base}/", "data:")):
            self.faults.append(f"a request to {urlsplit(request.url).netloc}: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self.faults.append(f"{response.status} to {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        """A page that is left takes its open requests along."""
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.failure} at {request.url}")

    def finish(self) -> None:
        """Raises AssertionError with all that was seen."""
        assert not self.faults, "\n".join(self.faults)
