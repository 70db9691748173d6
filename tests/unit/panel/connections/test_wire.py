"""The lines that people are shown are the lines that the edge sends."""

import pytest

from panel.connections.wire import wire
from sipd.flow import Flow, Listener
from sipd.settings import Settings
from sipd.wayout import contact_of
from sipd.wire import Wire

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize(
    ("transport", "port"), [("udp", 5060), ("udp", 5080), ("tcp", 5060), ("tcp", 5080), ("tls", 5061)]
)
def test_as_the_edge_says_it(mode: bool, port: int, transport: str) -> None:
    settings = Settings(listeners=(Listener(transport, "192.0.2.1", port, "192.0.2.1", port),))
    flow = Flow(transport, "198.51.100.1", 5060, 0)
    sent = contact_of("101", "acme.example", mode, Wire(settings, lambda n: b"x" * n), flow)
    shown = wire("101", "acme.example", "pbx.example", "192.0.2.1", port, transport, mode)
    assert _parts(shown.contact.removeprefix("Contact: ")) == _parts(sent)


def _parts(contact: str) -> tuple[str, frozenset[str]]:
    """URI and parameters; the order of parameters means nothing (RFC 3261 section 19.1.4)."""
    uri, *parameters = contact.strip("<>").split(";")
    return uri, frozenset(parameters)


def test_what_comes_back_is_what_was_told() -> None:
    on = wire("101", "acme.example", "pbx.example", "2001:db8::1", 5060, "udp", True)
    assert on.register == ("REGISTER sip:pbx.example SIP/2.0", "To: <sip:101@pbx.example>")
    assert on.invite == "INVITE sip:101@acme.example SIP/2.0"
    off = wire("101", "acme.example", "pbx.example", "2001:db8::1", 5060, "udp", False)
    assert off.contact == "Contact: <sip:101@[2001:db8::1]:5060;local-domain=acme.example>"


def test_what_the_dns_will_choose_is_shown_as_udp() -> None:
    told = [wire("101", "acme.example", "pbx.example", "192.0.2.1", 5060, kind, True) for kind in ("auto", "udp")]
    assert told[0] == told[1]
