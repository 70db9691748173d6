"""Values that can stand in a SIP message, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from sipd.message.address import Address
from sipd.message.uri import Uri
from sipd.message.via import Via

TOKEN_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~"
tokens = st.text(TOKEN_CHARS, min_size=1, max_size=12)
# Anything that decoding with surrogateescape can give, without control characters.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from('\udc80\udcff"\\,;<>'), max_size=20)
hosts = st.sampled_from(["example.com", "a-b.example", "192.0.2.1", "2001:db8::1", "under_score.example"])
ports = st.none() | st.integers(1, 65535)
header_params = st.dictionaries(tokens, st.none() | texts, max_size=4)
uri_users = st.none() | st.binary(min_size=1, max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
uri_params = st.dictionaries(
    st.text("abcxyz-%;= \xe4", min_size=1, max_size=8), st.none() | st.text(max_size=8).filter(str.isascii)
)


@st.composite
def uris(draw: st.DrawFn) -> Uri:
    user = draw(uri_users)
    return Uri(
        draw(st.sampled_from(["sip", "sips"])),
        user,
        draw(st.none() | st.text("abc:@%/ ", max_size=6)) if user is not None else None,
        draw(hosts),
        draw(ports),
        draw(uri_params),
        draw(st.sampled_from(["", "Route=%3Csip:x%3E", "a=b&c=d"])),
    )


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    return Address(draw(texts).strip(), draw(uris()), draw(header_params))


@st.composite
def vias(draw: st.DrawFn) -> Via:
    return Via(draw(tokens).upper(), draw(hosts), draw(ports), draw(header_params))
