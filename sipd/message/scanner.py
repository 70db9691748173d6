"""Bytes in, spans out: one pass that finds the header lines and decodes none of them.

RFC 3261 section 7. Kept small and without types of its own besides `Message`, so that a compiled twin can stand
beside it and be held equal to it by tests.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage
from sipd.message.grammar import TOKEN_BYTES
from sipd.message.message import Headers, Message


class Limits(NamedTuple):
    """What is refused unread, and with what answer."""

    message: int = 65535
    """Bytes of a whole message: 513."""
    lines: int = 200
    """Header lines: 513."""
    line: int = 8192
    """Bytes of one header line: 513; of the start line: 414."""


DEFAULT = Limits()

__all__ = ["COMPACT", "DEFAULT", "KNOWN_METHODS", "Limits", "Message", "scan"]

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""RFC 3261 7.3.3 and its extensions."""

_LONG = """
Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Authorization Call-ID Call-Info
Contact Content-Disposition Content-Encoding Content-Language Content-Length Content-Type CSeq Date Diversion
Error-Info Event Expires From Geolocation History-Info Identity In-Reply-To Max-Forwards MIME-Version Min-Expires
Min-SE Organization P-Access-Network-Info P-Asserted-Identity P-Preferred-Identity Path Priority Privacy
Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Refer-To Referred-By Reply-To Replaces
Require Retry-After Route RSeq Server Service-Route Session-Expires SIP-ETag SIP-If-Match Subject Subscription-State
Supported Timestamp To Unsupported User-Agent Via Warning WWW-Authenticate
"""  # one block reads better than seventy quoted words

# Fixed: names that peers make up never grow it.
_NAMES: dict[bytes, str] = {
    form.encode(): long.lower() for long in _LONG.split() for form in (long, long.lower(), long.upper(), long.title())
} | {form.encode(): long for short, long in COMPACT.items() for form in (short, short.upper())}

KNOWN_METHODS = frozenset((
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "PRACK", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER",
    "MESSAGE", "PUBLISH",
))  # fmt: skip
"""Methods that have a meaning to us, even if only to be refused in their own way."""
_METHODS = {name.encode(): name for name in KNOWN_METHODS}

_FOLD = b" \t"
_BLANKS = b" \t\r\n"
"""White space around a value, line ends of folds among it; bytes.strip() alone would take control characters, too."""
_ANSWER_HEADERS = ("via", "from", "to", "call-id", "cseq")
_is_version = re.compile(rb"SIP/[0-9]+\.[0-9]+", re.IGNORECASE).fullmatch
_bare_line_end = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_bare_nul = re.compile(rb"(?<!\\)\0").search


def scan(data: bytes, limits: Limits = DEFAULT) -> Message:  # noqa: C901 - one pass, inlined for speed
    """Read one message: a datagram, or what the framer cut out of a stream.

    Octets beyond Content-Length are ignored (RFC 3261 18.3). Raises BadMessage; the faults that only the values show
    are found by `check`.
    """
    size = len(data)
    start = 0
    while data.startswith(b"\r\n", start):  # RFC 3261 7.5
        start += 2
    fault = None
    head_end = data.find(b"\r\n\r\n", start)
    body_start = head_end + 4
    if head_end < 0:
        fault = (400, "Headers Not Ended By Blank Line")
        data += b"\r\n\r\n"
        head_end = data.find(b"\r\n\r\n", start)
        body_start = len(data)
    if size - start > limits.message:
        fault = (513, "Message Too Large")
    line_feeds = data.count(b"\n", start, head_end)
    if line_feeds > limits.lines:
        fault = (513, "Too Many Header Lines")
        head_end = min(head_end, _line_end(data, start, limits.lines))  # where lines end in other ways, it is beyond

    find = data.find
    line_end = find(b"\r\n", start)
    names: list[str] = []
    starts: list[int] = []
    colons: list[int] = []
    index: dict[str, int] = {}
    repeated: dict[str, list[int]] = {}
    known = _NAMES.get
    longest = limits.line
    folds = 0
    pos = line_end + 2
    while pos < head_end:
        end = find(b"\r\n", pos)
        while data[end + 2] in _FOLD:
            end = find(b"\r\n", end + 2)
            folds += 1
        colon = find(b":", pos, end)
        name = known(data[pos:colon])
        if name is None:
            name = _name(data[pos:colon]) if colon > 0 else ""
            if not name:
                fault = fault or (400, "Malformed Header Line")
                colon = end
        if end - pos > longest:
            fault = fault or (513, "Header Line Too Long")
        if name in index:
            repeated.setdefault(name, [index[name]]).append(len(names))
        else:
            index[name] = len(names)
        names.append(name)
        starts.append(pos)
        colons.append(colon)
        pos = end + 2
    starts.append(pos)

    if line_feeds != len(names) + folds or line_feeds != data.count(b"\r", start, head_end):
        fault = fault or (400, "Bare Line End In Headers")
    plain = not folds and data.find(b"\0", start, head_end) < 0 and data[:head_end].isascii()
    if not plain and _bare_nul(data, start, head_end):
        fault = fault or (400, "NUL In Headers")
    headers = Headers(names, starts, colons, index, repeated, plain)

    body = data[body_start:]
    if "content-length" in index:
        length = _content_length(data, headers)
        if length is None:
            fault = fault or (400, "Invalid Content-Length")
        elif length > len(body):
            fault = fault or (400, "Body Shorter Than Content-Length")
        else:
            body = body[:length]

    line = data[start:line_end]
    if line[:4].upper() == b"SIP/":
        if fault is None:
            return _response(line, Message(data, "", "", 0, "", body, headers))
        raise BadMessage(*fault)

    parts = line.split(b" ")
    if len(parts) == 3 and parts[2].upper() == b"SIP/2.0" and line_end - start <= longest:  # in any case: RFC 3261 7.1
        method = _METHODS.get(parts[0]) or _token(parts[0])
    else:
        method = ""
    if method and parts[1] and fault is None:
        return Message(data, method, str(parts[1], "utf-8", "surrogateescape"), 0, "", body, headers)

    if fault is None or not method or not parts[1]:
        fault = _start_line_fault(line, longest)
        method = method or _token(parts[0])
    uri = str(parts[1], "utf-8", "surrogateescape") if len(parts) == 3 else ""
    message = Message(data, method, uri, 0, "", body, headers)
    raise BadMessage(*fault, message if _is_answerable(message) else None)


def _line_end(data: bytes, pos: int, count: int) -> int:
    """Where the `count`-th line ends, or, where lines end in other ways, all."""
    end = pos
    for _ in range(count):
        found = data.find(b"\r\n", pos)
        if found < 0:
            break
        end, pos = found, found + 2
    while data[end + 2 : end + 3] in (b" ", b"\t"):  # never in the middle of a folded line
        end = data.find(b"\r\n", end + 2)
    return end


def _token(raw: bytes) -> str:
    """As text, "" when it is not a token."""
    return "" if raw.translate(None, TOKEN_BYTES) else raw.decode("ascii")


def _name(raw: bytes) -> str:
    """Canonical name in other spellings; "" when it is none. Only blanks may stand before the colon."""
    name = _token(raw.rstrip(_FOLD)).lower()
    return COMPACT.get(name, name)


def _content_length(data: bytes, headers: Headers) -> int | None:
    """None when it is no number, or when two lines differ: there is no way to know where the body ends then."""
    colons, starts = headers.colons, headers.starts
    i = headers.first["content-length"]
    digits = data[colons[i] + 1 : starts[i + 1] - 2].strip(_BLANKS)
    for i in headers.repeated.get("content-length", ()):
        if data[colons[i] + 1 : starts[i + 1] - 2].strip(_BLANKS) != digits:
            return None
    return int(digits) if digits.isdigit() and len(digits) < 11 else None


def _response(line: bytes, message: Message) -> Message:
    """Fill in the status line; faults have no answer, the response is to be discarded (RFC 3261 16.7, 18.1.2)."""
    code = line[8:11]
    if line[:8].upper() != b"SIP/2.0 " or line[11:12] not in (b" ", b"") or not (code.isdigit() and len(code) == 3):
        raise BadMessage(400, "Malformed Status Line")
    message.status = int(code)
    if not 100 <= message.status <= 699:
        raise BadMessage(400, "Invalid Status Code")
    message.reason = str(line[12:].replace(b"\0", b" "), "utf-8", "surrogateescape")
    text = message.get("cseq")
    if text is None:
        raise BadMessage(400, "Missing CSeq")
    message._cseq = CSeq.parse(text)
    message.method = message._cseq.method
    return message


def _start_line_fault(line: bytes, longest: int) -> tuple[int, str]:
    """RFC 3261 7.1: exactly one space between the three parts, none at the end."""
    if len(line) > longest:
        return 414, "Request-URI Too Long"
    parts = line.split(b" ")
    if len(parts) == 3 and _is_version(parts[2]) and parts[2].upper() != b"SIP/2.0":
        return 505, "Version Not Supported"
    return 400, "Malformed Request Line"


def _is_answerable(message: Message) -> bool:
    """An answer needs a Via to go by, is never sent for an ACK (RFC 3261 17), and must not copy stray line ends."""
    if message.method == "ACK" or not message.has("via"):
        return False
    return not any(_bare_line_end(line) or _bare_nul(line) for name in _ANSWER_HEADERS if (line := message.lines(name)))
