"""Takes secrets out of a SIP message before it is kept or shown: passwords, what proves them, and media keys.

It works on lines and not on a scanned message, so that what no scanner would take loses its secrets too. What a
known part of a header is good for stays (user name, realm, nonce); everything that is not known to be harmless goes.
"""

from __future__ import annotations

import re

GONE = b"(removed)"
"""What stands where a secret was."""
BODIES = ("sdp", "all", "none")
"""Which bodies are kept: session descriptions without their keys, all, none. Of the others type and length are told."""

_SIGNS = (
    b"auth", b"passw", b"secret", b"token", b"api", b"response", b"cnonce", b"auts", b"crypto", b"ice-pwd", b"key-mgmt",
    b"\nk", b"\rk",
)  # fmt: skip
"""Lower case. Most messages have none of them, and are not looked at any further."""
_uri_with_password = re.compile(rb"sip(?:s?:|s?%3a)[^\s@>]*(?::|%3a)[^\s@>]*@").search
_lines = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)").findall
_head_end = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n").search
_credentials = re.compile(rb"\s*(?:proxy-)?authori[sz]ation[ \t]*:", re.IGNORECASE).match
_proofs = re.compile(rb"\s*(?:proxy-)?authentication-info[ \t]*:", re.IGNORECASE).match
_private = re.compile(rb"[^\s:]*(?:password|passwd|secret|token|api-?key)[^\s:]*[ \t]*:", re.IGNORECASE).match
_key = re.compile(rb"\s*(?:a\s*=\s*(?:crypto|ice-pwd|key-mgmt)|k\s*=)", re.IGNORECASE).match
_kept_of_key = re.compile(
    rb"\s*a=crypto:\d{1,9} [A-Za-z0-9_]{1,64}(?= )|\s*a=(?:crypto|ice-pwd|key-mgmt)|\s*k=", re.IGNORECASE
).match
_digest = re.compile(rb"\s*Digest[ \t\r\n]+", re.IGNORECASE).match
_param = re.compile(rb'[,\s]*([A-Za-z0-9-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s,"]+)[ \t\r\n]*(?=,|$)').match
_password = re.compile(rb"(?i)(sips?(?::|%3a)[^\s@>:\"<]{0,256}(?::|%3a))[^\s@>]*@")
_proof = re.compile(rb"(?i)\b(response|cnonce|rspauth|auts)(\s*=\s*)(?:\"[^\"]*\"?|[^\s,;>\"]+)")
_header_in_uri = re.compile(rb"(?i)([?&](?:proxy-)?authori[sz]ation=)[^&>\s]*")
_type = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:[ \t]*([^\s;]{1,100})").search

HARMLESS = frozenset(b"username realm nonce uri algorithm qop nc opaque userhash nextnonce".split())
"""Parameters of credentials that neither are a secret nor help to guess one."""
NAMED = frozenset(b"response cnonce rspauth auts".split())
"""Parameters whose value goes and whose name stays; of others both go."""


def redact(data: bytes, bodies: str = "sdp") -> bytes:
    """The message without its secrets. Any bytes will do; the result is never longer than twice as long."""
    suspect = _may_hold_secrets(data)
    head, body = _parted(data)
    if body:
        body = _body(head, body, bodies, suspect)
    return (_head(head) if suspect else head) + body


def redact_all(messages: list[bytes], bodies: str = "sdp") -> list[bytes]:
    """`redact` for the messages of one call, at less cost: they are looked through together, and mostly clean."""
    whole = b" ".join(messages)
    if (
        b"\n\n" in whole or b"\r\r" in whole or _may_hold_secrets(whole)
    ):  # odd line ends: heads end in more than one way
        return [redact(data, bodies) for data in messages]
    if bodies == "all":
        return messages
    return [data if data.find(b"\r\n\r\n") == len(data) - 4 else _of_body_kept(data, bodies) for data in messages]


def _of_body_kept(data: bytes, bodies: str) -> bytes:
    """A message without secrets, with what is kept of its body."""
    head, body = _parted(data)
    return head + _body(head, body, bodies, suspect=False) if body else data


def _may_hold_secrets(text: bytes) -> bool:
    low = text.lower()
    for sign in _SIGNS:  # a loop: `any` takes twice as long
        if sign in low:
            return True
    return _uri_with_password(low) is not None


def _parted(data: bytes) -> tuple[bytes, bytes]:
    """Head with its empty line, and body. Blank lines before the message belong to the head."""
    start = 0
    if data[:1] in (b"\r", b"\n"):
        start = len(data) - len(data.lstrip(b"\r\n"))
    if b"\n\n" in data or b"\r\r" in data:
        found = _head_end(data, start)
        end = len(data) if found is None else found.end()
    else:
        end = data.find(b"\r\n\r\n", start) + 4
    return (data, b"") if end < 4 else (data[:end], data[end:])


def _head(head: bytes) -> bytes:
    """Header by header, folded lines included (RFC 3261 7.3.1)."""
    out: list[bytes] = []
    for header in _headers(head):
        bare = header.rstrip(b"\r\n")
        end = header[len(bare) :]
        if (name := _credentials(bare)) is not None:
            out.append(name[0] + b" " + _of_credentials(bare[name.end() :]) + end)
        elif (name := _proofs(bare)) is not None:
            out.append(name[0] + b" " + _params(bare[name.end() :]) + end)
        elif (name := _private(bare)) is not None:
            out.append(name[0] + b" " + GONE + end)
        else:
            out.append(_sdp_line(without_passwords(header)))
    return b"".join(out)


def _headers(head: bytes) -> list[bytes]:
    headers: list[bytes] = []
    for line in _lines(head):
        if line[:1] in (b" ", b"\t") and headers:
            headers[-1] += line
        else:
            headers.append(line)
    return headers


def _of_credentials(value: bytes) -> bytes:
    """Digest with its harmless parameters; of other schemes nothing."""
    scheme = _digest(value)
    return GONE if scheme is None else b"Digest " + _params(value[scheme.end() :])


def _params(text: bytes) -> bytes:
    """The harmless ones of `name=value, name="value"`; nothing at all when that is not wholly understood."""
    parts: list[bytes] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _param(text, position)
        if found is None:
            return GONE
        name, value = found.groups()
        harmless, named = name.lower() in HARMLESS, name.lower() in NAMED
        parts.append(name + b"=" + (value if harmless else b'"' + GONE + b'"') if harmless or named else GONE)
        position = found.end()
    return without_passwords(b", ".join(parts))


def without_passwords(text: bytes) -> bytes:
    """URIs without the password of their user part (RFC 3261 19.1.1), and without credentials among their headers.

    What looks like the proof of a password goes too, wherever it stands.
    """
    text = _password.sub(rb"\1" + GONE + b"@", text)
    return _proof.sub(rb'\1\2"' + GONE + b'"', _header_in_uri.sub(rb"\1" + GONE, text))


def _body(head: bytes, body: bytes, bodies: str, suspect: bool) -> bytes:
    found = _type(head)
    kind = found[1].lower() if found is not None else b""
    if bodies == "none" or (bodies != "all" and kind != b"application/sdp"):
        return b"(body of %d bytes, %s, not kept)" % (len(body), kind or b"no type")
    if not suspect:
        return body
    return without_passwords(b"".join(_sdp_line(line) for line in _lines(body)))


def _sdp_line(line: bytes) -> bytes:
    """Without a media key: SDES (RFC 4568), MIKEY (RFC 4567), `k=` (RFC 8866 5.12), and the ICE password (RFC 8839)."""
    if _key(line) is None:
        return line
    kept = _kept_of_key(line)
    return (kept[0] if kept is not None else b"") + b" " + GONE + line[len(line.rstrip(b"\r\n")) :]
