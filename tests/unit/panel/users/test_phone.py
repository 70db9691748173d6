"""Phone settings and their QR code."""

import pytest

from panel.users.phone import PhoneSettings, qr_code

pytestmark = pytest.mark.unit
SETTINGS = PhoneSettings("edge.example", 5060, "udp", "101", "acme.example")


def test_the_uri_that_phones_scan() -> None:
    assert SETTINGS.uri == "sip:101@acme.example;transport=udp"
    assert SETTINGS.address == "101@acme.example"
    assert SETTINGS.realm == "acme.example"


def test_a_phone_that_registers_at_the_pbx_has_its_account_and_our_domain() -> None:
    settings = PhoneSettings("edge.example", 5060, "udp", "101", "acme.example", pbx="Main", sign_in="2101")
    assert settings.uri == "sip:101@acme.example;transport=udp"
    assert settings.address == "101@acme.example"
    assert (settings.realm, settings.proxy) == ("", "edge.example")


def test_a_password_is_escaped() -> None:
    settings = PhoneSettings("edge.example", 5060, "tcp", "a b", "acme.example", "p:@;w")
    assert settings.uri == "sip:a%20b:p%3A%40%3Bw@acme.example;transport=tcp"


@pytest.mark.parametrize(
    ("server", "port", "proxy"),
    [
        ("edge.example", 5060, "edge.example"),
        ("192.0.2.1", 5070, "192.0.2.1:5070"),
        ("2001:db8::1", 5070, "[2001:db8::1]:5070"),
    ],
)
def test_the_proxy(server: str, port: int, proxy: str) -> None:
    assert PhoneSettings(server, port, "udp", "101", "acme.example").proxy == proxy


def test_the_code_suits_a_strict_policy() -> None:
    svg = qr_code(SETTINGS.uri)
    assert svg.startswith("<svg")
    assert "style=" not in svg
    assert "<?xml" not in svg
    assert qr_code(SETTINGS.uri) == svg
