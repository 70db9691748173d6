"""Messages going out: a join of slices of the received one and the few new headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sipd.message.errors import BadMessage, LocalError
from sipd.message.grammar import split_list
from sipd.message.message import Message

REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
}

Header = tuple[str, str] | bytes
"""A name and a value, or whole header lines as received (`Message.rest`, `Message.lines`)."""

_COPIED = frozenset(("via", "from", "to", "call-id", "cseq"))


def response(
    request: Message,
    status: int,
    reason: str | None = None,
    to_tag: str | None = None,
    headers: Sequence[Header] = (),
    body: bytes = b"",
    received: tuple[str, int] | None = None,
) -> bytes:
    """An answer (RFC 3261 8.2.6): Via, From, To, Call-ID and CSeq are slices of the request.

    `to_tag` is added when the To has none, except in a 100. `received` is the source (host, port) of the request: it
    goes into the top Via by RFC 3261 18.2.1 and RFC 3581. Headers that a faulty request lacks are left out.
    """
    if reason is None:
        reason = REASONS.get(status, "Unknown")
    parts = [f"SIP/2.0 {status} {_text(reason)}\r\n".encode("utf-8", "surrogateescape")]
    top = True
    for index, name in enumerate(request._names):
        if name not in _COPIED:
            if name == "timestamp" and status == 100:  # 8.2.6.1
                parts.append(request.line(index))
        elif name == "via":
            parts.append(stamp_via(request, received) if top and received is not None else request.line(index))
            top = False
        elif name == "to" and to_tag is not None and status > 100 and not _has_tag(request):
            parts.append(request.line(index).rstrip() + f";tag={_text(to_tag)}\r\n".encode())
        else:
            parts.append(request.line(index))
    _append(parts, headers)
    parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
    if body:
        parts.append(body)
    return b"".join(parts)


def request(method: str, uri: str, headers: Iterable[Header] = (), body: bytes = b"", rest: bytes = b"") -> bytes:
    """A request: start line, `headers` in order, `rest` (whole lines of another message, without Content-Length and
    without what `headers` replace), Content-Length, body."""
    parts = [f"{_text(method)} {_text(uri)} SIP/2.0\r\n".encode("utf-8", "surrogateescape")]
    if " " in uri or " " in method:
        raise LocalError("space in request line")
    _append(parts, headers)
    parts.append(rest)
    parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
    if body:
        parts.append(body)
    return b"".join(parts)


def stamp_via(request: Message, received: tuple[str, int]) -> bytes:
    """The first Via line with the source of the request in its top element; the others stay as they are.

    `received` is added when sent-by is another host, or with `rport` (RFC 3261 18.2.1, RFC 3581 4). A malformed Via
    stays untouched.
    """
    index = request._index["via"]
    line = request.line(index)
    try:
        via = request.via
    except BadMessage:
        return line
    host, port = received
    rport = "rport" in via.params
    if not rport and via.host.lower() == host.lower() and "received" not in via.params:
        return line
    if rport and via.params["rport"] is None and "received" not in via.params and b"," not in line and b'"' not in line:
        before, name, after = line.partition(b";rport")
        if name and after[:1] in (b";", b"\r"):  # as nearly all write it: a splice
            return before + f";received={_text(host)};rport={port}".encode() + after
    params = dict(via.params)
    params.pop("received", None)  # what the sender says of itself is not to be believed
    if rport:
        params["rport"] = str(port)
    if rport or via.host.lower() != host.lower():
        params["received"] = host
    text = "Via: " + str(via._replace(params=params))
    value = request._text(index)
    if "," in value:
        text = ", ".join([text, *split_list(value)[1:]])
    return f"{_text(text)}\r\n".encode("utf-8", "surrogateescape")


def _has_tag(request: Message) -> bool:
    """A To that cannot be read gets no tag: the answer says 400 anyway."""
    try:
        return request.to.tag is not None
    except BadMessage:
        return True


def _append(parts: list[bytes], headers: Iterable[Header]) -> None:
    for header in headers:
        if isinstance(header, bytes):
            parts.append(header if not header or header.endswith(b"\r\n") else header + b"\r\n")
        else:
            name, value = header
            line = _text(f"{name}: {value}")
            parts.append(f"{line}\r\n".encode("utf-8", "surrogateescape"))


def _text(text: str) -> str:
    """Guard against header injection: nothing that ends a line may come from a value. Other control characters, which
    terminals obey, become spaces."""
    if text.isprintable():
        return text
    if "\r" in text or "\n" in text or "\0" in text:
        raise LocalError("line end in a header value")
    return text.translate(_NO_CONTROLS)


_NO_CONTROLS = dict.fromkeys((*range(9), *range(10, 32), 127), " ")
