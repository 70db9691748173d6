"""SIP messages as the test peers read and write them: plain, slow, and easy to check by eye (RFC 3261 section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "m": "contact",
    "i": "call-id",
    "l": "content-length",
    "c": "content-type",
}
"""RFC 3261 section 7.3.3."""
LISTS = ("via", "route", "record-route", "contact")
"""Headers whose lines may hold several values, with commas between."""
MAX_MESSAGE = 65_535


class MalformedError(ValueError):
    """These bytes are no SIP message."""


@dataclass
class Message:
    """A request (`method` and `uri`) or an answer (`status` and `reason`)."""

    method: str = ""
    """Empty for an answer."""
    uri: str = ""
    status: int = 0
    """0 for a request."""
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Name as written and value, one value each for the headers in `LISTS`."""
    body: bytes = b""

    @property
    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0" if self.method else f"SIP/2.0 {self.status} {self.reason}"

    def all(self, name: str) -> list[str]:
        """All values of a header, from top to bottom."""
        return [value for key, value in self.headers if canonical(key) == name.lower()]

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        return next(iter(self.all(name)), default)

    def replace(self, name: str, value: str) -> None:
        """Put `value` in the place of the first one, or at the end; further ones stay."""
        for index, (key, _) in enumerate(self.headers):
            if canonical(key) == name.lower():
                self.headers[index] = (key, value)
                return
        self.headers.append((name, value))

    def remove(self, name: str) -> None:
        self.headers = [(key, value) for key, value in self.headers if canonical(key) != name.lower()]

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method."""
        number, _, method = self.get("CSeq").partition(" ")
        return int(number), method.strip()

    @property
    def call_id(self) -> str:
        return self.get("Call-ID")

    @property
    def branch(self) -> str:
        """Of the top Via."""
        return params_of(self.get("Via").partition(" ")[2]).get("branch", "")

    @property
    def from_(self) -> Address:
        return Address.parse(self.get("From"))

    @property
    def to(self) -> Address:
        return Address.parse(self.get("To"))

    @property
    def contacts(self) -> list[Address]:
        return [Address.parse(value) for value in self.all("Contact")]

    @property
    def contact(self) -> Address:
        return Address.parse(self.get("Contact"))

    def __bytes__(self) -> bytes:
        headers = [(name, value) for name, value in self.headers if canonical(name) != "content-length"]
        lines = [self.start_line, *(f"{name}: {value}" for name, value in headers)]
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body

    def __str__(self) -> str:
        return bytes(self).decode(errors="replace")

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """Raises `MalformedError`."""
        head, gap, body = data.partition(b"\r\n\r\n")
        if not gap or len(data) > MAX_MESSAGE:
            raise MalformedError("no empty line after the headers, or too long")
        try:
            text = head.decode()
        except UnicodeDecodeError as error:
            raise MalformedError("headers are not UTF-8") from error
        first, *lines = re.sub(r"\r\n[ \t]+", " ", text).split("\r\n")
        message = _start(first)
        message.headers = list(_headers(lines))
        length = message.get("Content-Length", str(len(body)))
        if not length.isdigit() or int(length) > len(body):
            raise MalformedError(f"Content-Length {length} with {len(body)} bytes of body")
        message.body = body[: int(length)]
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            if not message.get(name):
                raise MalformedError(f"no {name}")
        if not re.fullmatch(r"\d+ +[A-Z]+", message.get("CSeq")):
            raise MalformedError("CSeq is no number and method")
        return message


def canonical(name: str) -> str:
    """Lower case, and the long form."""
    return COMPACT.get(name.lower(), name.lower())


def _start(line: str) -> Message:
    answer = re.fullmatch(r"SIP/2\.0 (\d{3}) (.*)", line)
    if answer:
        return Message(status=int(answer[1]), reason=answer[2])
    request = re.fullmatch(r"([A-Z]+) (\S+) SIP/2\.0", line)
    if request:
        return Message(method=request[1], uri=request[2])
    raise MalformedError(f"start line {line!r}")


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9!%*_+`'~.-]+[ \t]*", name):
            raise MalformedError(f"header line {line!r}")
        name = name.strip()
        values = split_outside(value, ",") if canonical(name) in LISTS else [value]
        for each in values:
            yield name, each.strip()


def split_outside(text: str, separator: str) -> list[str]:
    """Split where the separator is neither in quotes nor in angle brackets."""
    parts, depth, quoted, start, index = [], 0, False, 0, 0
    while index < len(text):
        character = text[index]
        if quoted and character == "\\":
            index += 1
        elif character == '"':
            quoted = not quoted
        elif not quoted:
            depth += (character == "<") - (character == ">")
            if character == separator and depth == 0:
                parts.append(text[start:index])
                start = index + 1
        index += 1
    return [*parts, text[start:]]


def params_of(text: str) -> dict[str, str]:
    """`;name=value` pairs after the first semicolon, names in lower case."""
    pairs = (part.strip().partition("=") for part in split_outside(text, ";")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True)
class Uri:
    """A SIP URI in pieces (RFC 3261 section 19.1)."""

    user: str
    host: str
    """IPv6 without brackets."""
    port: int
    """0: not given."""
    params: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises `MalformedError`."""
        found = re.fullmatch(
            r"sips?:(?:([^@]*)@)?(\[[0-9a-fA-F:.]+\]|[^\[\]:;?@]+)(?::(\d+))?((?:;[^?]*)?)(?:\?.*)?", text
        )
        if not found:
            raise MalformedError(f"URI {text!r}")
        user, host, port, params = found.groups()
        return cls((user or "").partition(":")[0], host.strip("[]"), int(port or 0), params_of(params or ""))

    @property
    def aor(self) -> str:
        """`user@host`, the host in lower case."""
        return f"{self.user}@{self.host.lower()}"


@dataclass(frozen=True)
class Address:
    """From, To, Contact or Route: a URI as it was written, and header parameters (RFC 3261 section 20.10)."""

    uri_text: str
    params: dict[str, str]
    display: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `MalformedError`."""
        found = re.fullmatch(r"\s*(\"(?:[^\"\\]|\\.)*\"|[^<\"]*?)\s*<([^>]*)>(.*)", text, re.DOTALL)
        if found:
            display = found[1][1:-1] if found[1].startswith('"') else found[1]
            return cls(found[2], params_of(found[3]), display)
        bare, _, params = text.strip().partition(";")
        return cls(bare, params_of(";" + params) if params else {})

    @property
    def uri(self) -> Uri:
        return Uri.parse(self.uri_text)

    @property
    def tag(self) -> str:
        return self.params.get("tag", "")
