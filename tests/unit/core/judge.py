"""What holds for every message that the edge sends, whatever it received; and how much a node remembers."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator

import sipmessage

from sipd.edge import Edge
from sipd.message.check import check
from sipd.message.scanner import COMPACT, scan
from sipd.timers import Timers

_bare_line_end = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_request_line = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]+ [^\s]+ SIP/2\.0").fullmatch
_status_line = re.compile(rb"SIP/2\.0 [1-6][0-9][0-9] [^\r\n]*").fullmatch
_header_line = re.compile(rb"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]*:").match
ONCE = ("from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type", "expires")
"""Headers that may stand but once in what we send (RFC 3261 20)."""


class IllFormed(AssertionError):
    """The edge sent what it should not have sent."""


def header_lines(head: bytes) -> list[bytes]:
    """Start line and header lines, folds taken away."""
    return re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n")


def shape(data: bytes) -> list[str]:
    """Read the bytes as the grammar of RFC 3261 section 7 has them, without a parser of ours; the header names.

    Holds for all that is sent, also for the answer to a message that was itself malformed.
    """
    head, blank, body = data.partition(b"\r\n\r\n")
    _must(bool(blank), "no blank line", data)
    _must(not _bare_line_end(head), "bare line end", data)
    _must(b"\0" not in head, "NUL in the headers", data)
    first, *lines = header_lines(head)
    _must(bool(_request_line(first) or _status_line(first)), "start line", data)
    names = []
    for line in lines:
        found = _header_line(line)
        _must(found is not None, f"header line {line!r}", data)
        assert found is not None
        name = found[1].decode().lower()
        names.append(COMPACT.get(name, name))
        if names[-1] == "content-length":
            _must(line[found.end() :].strip() == b"%d" % len(body), "Content-Length", data)
    _must(names.count("content-length") == 1, "one Content-Length", data)
    return names


def whole(data: bytes) -> None:
    """A message that a reader takes who keeps to the RFC: our parser, and, for what we add, sipmessage."""
    names = shape(data)
    for name in ONCE:
        _must(names.count(name) <= 1, f"repeated {name}", data)
    message = scan(data)
    check(message)
    if not message.status:
        read_by_the_other(data)


def read_by_the_other(data: bytes) -> None:
    """A request as sipmessage reads it. URIs and addresses of peers are passed as they came, also where they are odd:
    what it thinks of those is in tests/unit/message/test_oracle.py."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = (line.decode("utf-8", "replace") for line in header_lines(head))
    method = first.partition(" ")[0]
    plain = [f"{method} sip:x@x.example SIP/2.0", *(re.sub(r"^([^:\s]+)\s*:", r"\1:", line) for line in lines)]
    try:
        message = sipmessage.Message.parse("\r\n".join(plain).encode() + b"\r\n\r\n" + body)
        vias, cseq = message.via, message.cseq
        _ = message.max_forwards, message.content_length, message.call_id
    except (ValueError, KeyError) as error:
        raise IllFormed(f"{error!r} from sipmessage for\n{data.decode(errors='replace')}") from None
    _must(len(vias) == 1, "one Via", data)
    _must(cseq.method == method, "CSeq method", data)


def _must(holds: bool, what: str, data: bytes) -> None:
    if not holds:
        raise IllFormed(f"{what} in\n{data.decode(errors='backslashreplace')}")


BOUNDED = (
    "counters", "waiting", "changes", "faults", "guard", "_guard", "_nobody", "_nonces", "_opened", "_known",
    "_slots", "_buckets", "_waits", "_table", "_first", "_until", "_lost", "tls_names", "tracer", "tally",
)  # fmt: skip
"""Memories with a named bound of their own, what the shell takes away, and constants: time empties none of them."""


def sizes(edge: Edge) -> Counter[str]:
    """How many entries each container of the core holds, by its owner's class and name.

    Walks everything that the edge can reach, so that a container that is new tomorrow is measured, too.
    """
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("edge", edge)]
    while todo:
        path, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Timers):
            found[f"{path} timers"] += len(thing)
            continue
        if isinstance(thing, (dict, OrderedDict, list, set, frozenset, deque)):
            found[path] += len(thing)
            todo += [(f"{path}[]", member) for member in (thing.items() if isinstance(thing, dict) else thing)]
        elif isinstance(thing, tuple):
            todo += [(path, value) for value in thing]
        else:
            todo += [(f"{type(thing).__name__}.{name}", value) for name, value in _attributes(thing)]
    return +found


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Of objects of the core; messages and the table are no state."""
    kind = type(thing)
    if not kind.__module__.startswith("sipd.") or kind.__module__.startswith(("sipd.message", "sipd.routing")):
        return
    names = set(getattr(thing, "__dict__", ()))
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names |= {slots} if isinstance(slots, str) else set(slots)
    for name in sorted(names - set(BOUNDED)):
        value = getattr(thing, name, None)
        if value is not None and not isinstance(value, (str, bytes, int, float)):
            yield name, value
