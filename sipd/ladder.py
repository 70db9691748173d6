"""A trace for people: what was decided, step by step, and the messages of all legs as a ladder.

Foreign bytes are shown as they are only where they cannot move the cursor: all else becomes a question mark.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from typing import Any

TIME_WIDTH = 10
"""Columns of the time at the left."""
MIN_RUNG = 17
"""Columns between two lifelines at least; ends that do not fit share the last lifeline."""
MAX_RUNG = 34
TITLE = 21
"""Columns for the name of the last lifeline: an IPv4 address and a port."""

Doc = dict[str, Any]


def legible(text: object) -> str:
    """One line of it, with nothing that could move the cursor."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def lines(trace: Doc, width: int, *, full: bool = False) -> Iterator[str]:
    """A whole trace. `width`: of the terminal; `full`: with the messages as they were."""
    yield from head(trace)
    since = trace["since"]
    if trace["steps"]:
        yield ""
        for step in trace["steps"]:
            passed = "yes" if step["passed"] else "no"
            first = f"{step['at'] - since:9.3f}  {passed:3}  {legible(step['rule']):16}  "
            yield from textwrap.wrap(first + legible(step["sentence"]), width, subsequent_indent=" " * len(first))
    yield ""
    yield from Ladder(trace, width).lines()
    if trace["dropped"]:
        yield f"{trace['dropped']} messages are missing: more came than are kept of one trace."
    if full:
        for message in trace["messages"]:
            yield from whole(message, since)


def head(trace: Doc) -> Iterator[str]:
    """What it was, who with whom, and what became of it."""
    names = {"tenant": "tenant_slug", "user": "extension", "connection": "connection_name"}
    who = ", ".join(f"{name} {legible(trace.get(known, trace[name]))}" for name, known in names.items() if trace[name])
    direction = f" {trace['direction']}" if trace["direction"] else ""
    yield f"{trace['kind']}{direction}  {legible(trace['id'])}"
    yield f"  from {legible(trace['from'] or '-')}  to {legible(trace['to'] or '-')}"
    if who:
        yield f"  {who}"
    yield f"  {moment(trace['since'])}  {outcome(trace)}"
    times = timings(trace)
    if times:
        yield f"  {times}"
    for number, leg in enumerate(trace["legs"]):
        yield f"  leg {number}: Call-ID {legible(leg)}"


def outcome(trace: Doc) -> str:
    """`486 Busy Here by rule limit-user-calls, ended by edge`."""
    text = f"{trace['code']} {legible(trace['reason'])}".strip() if trace["code"] else "no final answer yet"
    text += f" by rule {legible(trace['rule'])}" if trace["rule"] else ""
    return text + (f", ended by {trace['by']}" if trace["by"] else "")


def timings(trace: Doc) -> str:
    """`rang after 0.120 s, answered after 2.400 s`; empty when it did not come to that."""
    named = {"ringing": "rang after", "answered": "answered after", "talk": "talk", "total": "in all"}
    return ", ".join(f"{named[name]} {value:.3f} s" for name, value in trace["timings"].items() if value is not None)


def moment(epoch: float) -> str:
    """Local time to the millisecond."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(epoch))}.{int(epoch * 1000) % 1000:03d}"


def title(text: str) -> str:
    """A message in a few words: `INVITE`, `180 Ringing`, `200 OK (BYE)`."""
    first, _, rest = text.lstrip("\r\n").partition("\n")
    words = first.strip().split(" ", 2)
    if not words[0].upper().startswith("SIP/"):
        label = words[0][:20] or "(nothing)"
    else:
        method = _method(rest)
        label = " ".join(words[1:])[:28] + (f" ({method})" if method not in ("", "INVITE") else "")
    return legible(label + (" +SDP" if "\nv=0" in rest else ""))


def _method(text: str) -> str:
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "cseq":
            return value.split()[-1][:12] if value.split() else ""
    return ""


def whole(message: Doc, since: float) -> Iterator[str]:
    """One message with all its lines."""
    arrow = "from" if message["way"] == "in" else "to"
    yield ""
    yield f"{message['at'] - since:9.3f}  {arrow} {legible(message['flow'])}  leg {message['leg']}"
    for line in message["text"].replace("\r\n", "\n").rstrip("\n").split("\n"):
        yield f"           {legible(line)}"


class Ladder:
    """Lifelines: the far end of the first leg, the edge, the far ends of the others."""

    def __init__(self, trace: Doc, width: int) -> None:
        self._since = trace["since"]
        self._messages = trace["messages"]
        ends: list[tuple[int, str]] = []
        for message in sorted(self._messages, key=lambda message: message["leg"] != 0):
            end = _end(message)
            if end not in ends:
                ends.append(end)
        room = width - TIME_WIDTH - 2 - TITLE
        most = max(2, room // MIN_RUNG + 1)  # lifelines, with the edge's
        self._ends = ends
        self._shared = len(ends) + 1 > most
        count = min(len(ends) + 1, most)
        rung = min(MAX_RUNG, room // max(1, count - 1))
        self._at = [TIME_WIDTH + 1 + rung * number for number in range(count)]
        self._rung = rung

    def _column(self, end: tuple[int, str]) -> int:
        place = self._ends.index(end)
        return min(place + 1, len(self._at) - 1) if place else 0

    def lines(self) -> Iterator[str]:
        if not self._messages:
            yield "No messages are kept."
            return
        yield from self._titles()
        for message in self._messages:
            yield self._row(message)

    def _titles(self) -> Iterator[str]:
        names = {0: self._ends[0][1], 1: "sipd"}
        for end in self._ends[1:]:
            column = self._column(end)
            names[column] = end[1] if column not in names else "others"
        line = [" "] * (self._at[-1] + TITLE)
        for column, name in names.items():
            room = TITLE if column == len(self._at) - 1 else self._rung - 1
            short = name if len(name) <= room else name[: room - 1] + "~"
            begin = self._at[column]
            line[begin : begin + len(short)] = short
        yield "".join(line).rstrip()

    def _row(self, message: Doc) -> str:
        end = _end(message)
        here, there = self._at[1], self._at[self._column(end)]
        line = [" "] * (self._at[-1] + 1)
        for position in self._at:
            line[position] = "|"
        low, high = sorted((here, there))
        line[low + 1 : high] = "-" * (high - low - 1)
        inward = message["way"] == "in"
        if (there < here) == inward:
            line[high - 1] = ">"
        else:
            line[low + 1] = "<"
        label = title(message["text"])
        if self._shared and self._column(end) == len(self._at) - 1:
            label += " " + end[1]
        label = label[: high - low - 5]
        begin = low + 3
        line[begin : begin + len(label)] = label
        return f"{message['at'] - self._since:9.3f}{''.join(line)[9:]}"


def _end(message: Doc) -> tuple[int, str]:
    """Leg and address without the transport's name."""
    return message["leg"], legible(message["flow"].partition(":")[2])
