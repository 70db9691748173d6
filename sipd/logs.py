"""What a node writes to its log: one line for each thing that happened, as `key=value` or as JSON; never a secret.

The core logs nothing: `EventLog` writes lines of the events that it tells.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sipd.redact import without_passwords

log = logging.getLogger("sipd.events")

FORMATS = ("logfmt", "json")
LINES_PER_SECOND = 20.0
"""Lines of events in the long run; more are counted, and the count is told."""
BURST = 200.0
"""Lines of events at once."""
VALUE_LENGTH = 300
"""Characters of one value; longer ones are cut."""

Doc = dict[str, Any]


class LogfmtFormatter(logging.Formatter):
    """`at=.. level=.. from=.. what happened key=value ..`; a message stays on its line, a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        message = "".join(c if c.isprintable() else "?" for c in record.getMessage())
        fields = "".join(f" {name}={quoted(value)}" for name, value in fields_of(record).items())
        line = f"at={moment(record)} level={record.levelname.lower()} from={record.name} {message}{fields}"
        return f"{line}\n{self.traceback(record)}" if record.exc_info else line

    def traceback(self, record: logging.LogRecord) -> str:
        """How it came to an error, without what an error may have quoted."""
        return redacted(self.formatException(record.exc_info)) if record.exc_info else ""


class JsonFormatter(LogfmtFormatter):
    """One JSON object a line: at, level, from, message, and what applies of call_id, call, tenant, rule and others."""

    def format(self, record: logging.LogRecord) -> str:
        line: Doc = {"at": moment(record), "level": record.levelname.lower(), "from": record.name}
        line |= {"message": record.getMessage(), **fields_of(record)}
        if record.exc_info:
            line["traceback"] = self.traceback(record)
        return json.dumps(line)


def moment(record: logging.LogRecord) -> str:
    """UTC, with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What a line was given besides its message: `extra={"fields": {...}}`."""
    found: Mapping[str, object] = getattr(record, "fields", {})
    return found


def quoted(value: object) -> str:
    """A value of `key=value`: in quotes, with JSON's escapes, when it is not one plain word."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not any(c in text for c in ' "=\\')
    return text if plain and text else json.dumps(text)


def redacted(text: str) -> str:
    """Without passwords in URIs and what proves them."""
    return without_passwords(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def start(level: str, form: str) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


REFUSED = ("method", "code", "reason", "source", "uri")
CALL = ("direction", "from", "to")
ENDED = (*CALL, "code", "reason", "by")
REGISTRATION = ("state", "code", "reason")
KINDS: Mapping[str, tuple[str, ...]] = {
    "refused": REFUSED,
    "registration.changed": REGISTRATION,
    "toll.stopped": ("prefix", "count", "limit", "reason"),
    "source.banned": ("source", "reason", "seconds", "times"),
    "pbx.down": ("address", "reason"),
    "pbx.up": ("address",),
    "media.down": ("address",),
    "media.up": ("address",),
}
"""Events with a line of their own, and what of their detail is in it."""
FAILED = ("refused", "unreachable")
"""States of an upstream registration."""


class EventLog:
    """Lines for refusals, failures and bans, and, when asked, for calls. `named` gives a tenant's slug."""

    def __init__(self, clock: Callable[[], float], named: Callable[[str], str], *, calls: bool = False) -> None:
        self._clock = clock
        self._named = named
        self._left, self._then = BURST, clock()
        self._suppressed = 0
        self._kinds = dict(KINDS)
        if calls:
            self._kinds |= {"call.started": CALL, "call.answered": (), "call.ended": ENDED}

    def take(self, events: Iterable[Doc]) -> None:
        """Write what is to be written of a batch."""
        for event in events:
            names = self._kinds.get(event["kind"])
            if names is None or (names is REGISTRATION and event["detail"]["state"] not in FAILED):
                continue
            if self._may():
                self._write(event, names)
            else:
                self._suppressed += 1

    def tick(self) -> None:
        """Each second: say how many lines were not written, once there is room again."""
        if self._suppressed and self._may():
            log.warning("lines suppressed", extra={"fields": {"count": self._suppressed}})
            self._suppressed = 0

    def _may(self) -> bool:
        """Whether one more line may be written now."""
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._then) * LINES_PER_SECOND)
        self._then = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def _write(self, event: Doc, names: Iterable[str]) -> None:
        kind, detail = event["kind"], event["detail"]
        fields: Doc = {name: detail[name] for name in ("call_id", "call") if detail.get(name)}
        if event.get("tenant"):
            fields["tenant"] = self._named(event["tenant"])
        fields |= {name: event[name] for name in ("rule", "user", "connection") if name in event}
        fields |= {name: detail[name] for name in names if name in detail}
        message = "registration failed" if kind == "registration.changed" else kind.replace(".", " ")
        log.info(message, extra={"fields": {name: safe(value) for name, value in fields.items()}})


def safe(value: object) -> object:
    """A value as it may be written: texts without passwords, and not endless."""
    return redacted(value[:VALUE_LENGTH]) if isinstance(value, str) else value
