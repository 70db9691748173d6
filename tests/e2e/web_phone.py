"""JsSIP phones in pages of Chromium: how the browser is started, and what their pages tell."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

FLAGS = (
    "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update",
    "--disable-sync", "--ignore-certificate-errors", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream", "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
"""A microphone that needs no permission, the test authority's certificate, and this machine only. Chromium asks before
a page of the web may talk to the local network, which here is all there is."""
SCRIPT = Path(__file__).with_name("jssip.js")
ORIGIN = "https://phone.example"
PATIENCE = 20.0


def heard(page: Page, what: str) -> None:
    """Wait until the phone has heard of it."""
    try:
        page.wait_for_function(
            "(what) => phone.heard.some((one) => one.startsWith(what))", arg=what, timeout=PATIENCE * 1000
        )
    except Exception as error:
        raise AssertionError(f"not heard: {what!r}; heard: {page.evaluate('phone.heard')}") from error
