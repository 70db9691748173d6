"""What was said, call by call, for people who ask why a call failed: messages of all legs, decision, timings.

On the way of a message there is one list to append to, of references to bytes that exist anyway (`Tracer.received`,
`catch_up`). `sort` then gives each note to its `Trace`, by Call-ID, away from the messages; secrets are taken
out when a trace is stored or shown, within `SETTLE` seconds, and never leave memory before.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sipd.flow import Flow, shown
from sipd.redact import redact, redact_all

Doc = dict[str, Any]

IN, OUT = "in", "out"
EVENT, LEG, FIRST_LEG, DECIDED, PASSED, FAILED = "event", "leg", "first leg", "decided", "passed", "failed"
"""What a note is. Its other places hold, beside the time: flow, message and Call-ID; event and Call-ID; Call-ID, whose
it is and (tenant, user, connection); steps, sentence and Call-ID; whose step, rule and sentence."""
NOTE = 5
"""Places of a note."""
KINDS = ("call", "request", "registration", "upstream", "subscription")
"""A call that was begun; another request, refused or not; a phone's REGISTERs; our own; a subscription."""


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """What is kept in memory. Where a limit is reached the oldest go, and are counted."""

    notes: int = 20_000
    """Messages and events not yet sorted; one more, and they are sorted at once."""
    messages: int = 300
    """Messages of a call. The first `head` stay, of the others the oldest go."""
    head: int = 60
    ring: int = 20
    """Messages of a registration or subscription: of these the newest are kept."""
    message_bytes: int = 65_535
    """Of one message; what is longer is cut."""
    trace_bytes: int = 512 * 1024
    """Message bytes of one trace: counts as `messages` does."""
    total_bytes: int = 64 * 1024 * 1024
    """Message bytes of all traces: those that changed longest ago lose their messages first."""
    calls: int = 20_000
    """Traces of calls."""
    others: int = 5_000
    """Traces of each other kind."""
    steps: int = 100
    """Steps of the decision of one trace."""
    legs: int = 64
    """Call-IDs of one trace."""
    unsampled: int = 50_000
    """Names of calls that sampling left out, so that their later legs are left out too."""


DEFAULT = TraceLimits()
SETTLE = 1.0
"""Seconds without news after which a trace is given to the store."""
SETTLE_AT_MOST = 5.0
"""Seconds after which it is, news or not."""
UNTRACED = "keepalive-"
"""What the Call-IDs of our own questions to phones begin with (`sipd.keepalive`): too many, and of no interest."""
SHARED_LEGS = 4
"""Calls that may share a Call-ID: a proxy that sends our call back to us keeps it."""
MAX_TEXT = 200

_call_id = re.compile(rb"(?im)^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)").search
_from = re.compile(rb"(?im)^(?:from|f)[ \t]*:[^\r\n]{0,1000}?(sips?:[^\r\n>;\s]*)").search
_start = re.compile(rb"\s*([^\s]{1,40}) ([^\r\n]{0,1000}?)(?: SIP/2\.0)?\r?\n").match


class Said:
    """One message."""

    __slots__ = ("at", "clean", "data", "flow", "leg", "no", "way")

    def __init__(self, at: float, way: str, flow: Flow, data: bytes, leg: int, no: int) -> None:
        self.at = at
        """Epoch seconds."""
        self.way = way
        """`in` or `out`, as the edge sees it."""
        self.flow = flow
        self.data = data
        self.leg = leg
        """Which of `Trace.legs`."""
        self.no = no
        """Rises by one in a trace, so that what is in memory and what is on disk can be put together."""
        self.clean = ""
        """How it was redacted; empty: it was not yet."""

    def scrub(self, bodies: str) -> bytes:
        """The message without its secrets; from now on that is all that is kept of it."""
        if self.clean != bodies:
            self.data = redact(self.data, bodies)
            self.clean = bodies
        return self.data

    def as_dict(self, bodies: str) -> Doc:
        """docs/architecture.md, `trace`."""
        return {
            "no": self.no,
            "at": round(self.at, 6),
            "way": self.way,
            "flow": shown(self.flow),
            "listener": self.flow.listener,
            "leg": self.leg,
            "text": self.scrub(bodies).decode("utf-8", "replace"),
        }


def scrub_all(messages: Sequence[Said], bodies: str) -> None:
    """`scrub` for many, at less cost."""
    if any(said.clean for said in messages):
        for said in messages:
            said.scrub(bodies)
        return
    for said, data in zip(messages, redact_all([said.data for said in messages], bodies), strict=True):
        said.data, said.clean = data, bodies


class Trace:
    """One call, or what else has Call-IDs of its own."""

    __slots__ = (
        "answered", "by", "code", "connection", "direction", "dropped", "ended", "from_text", "handed_over",
        "id", "kind", "legs", "messages", "new_steps", "next_no", "reason", "ringing", "rule", "saved", "since", "size",
        "steps", "tenant", "to_text", "touched", "unsaved_since", "user",
    )  # fmt: skip

    def __init__(self, id_: str, kind: str, now: float) -> None:
        self.id = id_
        self.kind = kind
        self.tenant = self.user = self.connection = ""
        self.direction = self.from_text = self.to_text = ""
        self.code = 0
        self.reason = self.rule = self.by = ""
        self.legs: list[str] = []
        """Call-IDs, in the order in which they began."""
        self.since = self.touched = now
        self.ringing: float | None = None
        """First 18x to the caller."""
        self.answered: float | None = None
        self.ended: float | None = None
        self.messages: list[Said] = []
        self.saved = 0
        """How many of `messages`, from the first, were given to the store."""
        self.steps: list[Doc] = []
        self.new_steps = 0
        self.handed_over = False
        self.size = 0
        self.dropped = 0
        self.next_no = 0
        self.unsaved_since: float | None = None

    def limit(self, limits: TraceLimits) -> int:
        return limits.messages if self.kind in ("call", "request") else limits.ring

    def add(self, said: Said, limits: TraceLimits) -> int:
        """Keep a message; by how many bytes the trace has grown."""
        before = self.size
        self.messages.append(said)
        self.size += len(said.data)
        head = limits.head if self.kind in ("call", "request") else 0
        most = self.limit(limits)
        while len(self.messages) > most or self.size > limits.trace_bytes:
            at = head if len(self.messages) > head + 1 else 0
            if len(self.messages) <= 1:
                break
            gone = self.messages.pop(at)
            self.size -= len(gone.data)
            if at < self.saved:
                self.saved -= 1
            else:
                self.dropped += 1
        return self.size - before

    def forget_messages(self) -> int:
        """Give up the messages in memory; how many bytes that frees."""
        freed, self.size = self.size, 0
        self.dropped += len(self.messages) - self.saved
        self.messages = []
        self.saved = 0
        return freed

    def about(self) -> Doc:
        """All but messages and steps: docs/architecture.md, `traces`."""
        return {
            "id": self.id,
            "kind": self.kind,
            "tenant": self.tenant,
            "user": self.user,
            "connection": self.connection,
            "direction": self.direction,
            "from": self.from_text,
            "to": self.to_text,
            "code": self.code,
            "reason": self.reason,
            "rule": self.rule,
            "by": self.by,
            "since": round(self.since, 6),
            "timings": self._timings(),
            "legs": list(self.legs),
            "messages": self.next_no,
            "dropped": self.dropped,
        }

    def _timings(self) -> dict[str, float | None]:
        """Seconds; None: it did not come to that."""

        def after(then: float | None, before: float | None = self.since) -> float | None:
            return None if then is None or before is None else round(then - before, 6)

        return {
            "ringing": after(self.ringing),
            "answered": after(self.answered),
            "talk": after(self.ended, self.answered),
            "total": after(self.ended),
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """What there is new of a trace, for the store."""

    about: Doc
    messages: list[Said]
    steps: list[Doc]
    first: bool = False
    """Nothing was handed over of it before."""


class Tracer:
    """All traces in memory. Everything but `received` and `catch_up` is off the way of the messages."""

    def __init__(self, sample: float = 1.0, limits: TraceLimits = DEFAULT) -> None:
        self._sample = int(sample * 0xFFFFFFFF)
        self._limits = limits
        self.now = 0.0
        self._current = ""
        """Call-ID of the message that is being handled; empty: a timer."""
        self._seen = 0
        """How much of the outbox is noted."""
        self._notes: list[Any] = []
        """`NOTE` places for each: flat, as many small tuples that live for a second keep the garbage collector busy."""
        self._traces: dict[str, OrderedDict[str, Trace]] = {kind: OrderedDict() for kind in KINDS}
        self._by_id: dict[str, Trace] = {}
        self._legs: dict[str, tuple[Trace, ...]] = {}
        self._unsaved: dict[str, Trace] = {}
        self._unsampled: OrderedDict[str, None] = OrderedDict()
        self._registrations: dict[tuple[str, str, str], Trace] = {}
        self._undelivered: tuple[str, list[tuple[str, bool, str]]] = "", []
        """Call-ID and steps of a decision whose call has no trace yet."""
        self._bytes = 0
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def held(self) -> int:
        """Of all messages in memory, but for those that are not sorted yet."""
        return self._bytes

    # -- on the way of the messages

    def received(self, data: bytes, flow: Flow, now: float, call_id: str, outbox: Sequence[tuple[bytes, Flow]]) -> None:
        """A message came; `call_id` is empty when it could not be read."""
        if len(outbox) != self._seen:
            self.catch_up(outbox)
        self.now = now
        self._current = call_id
        notes = self._notes
        notes += (now, IN, flow, data, call_id)
        if len(notes) > self._limits.notes * NOTE:
            self.sort()

    def catch_up(self, outbox: Sequence[tuple[bytes, Flow]]) -> None:
        """Note what was put into the outbox since the last time."""
        if len(outbox) == self._seen:
            return
        now, notes = self.now, self._notes
        for data, flow in outbox[self._seen :]:
            notes += (now, OUT, flow, data, "")
        self._seen = len(outbox)

    def sent(self, outbox: Sequence[tuple[bytes, Flow]]) -> None:
        """The outbox is taken away."""
        self.catch_up(outbox)
        self._seen = 0

    def tick(self, now: float, outbox: Sequence[tuple[bytes, Flow]]) -> None:
        """What comes now is no message's doing."""
        self.catch_up(outbox)
        self.now = now
        self._current = ""

    def leg(self, call_id: str, of: str, tenant: str, user: str, connection: str, *, call: bool) -> None:
        """A leg begins: messages with this Call-ID belong to `of`, a call's id or another leg's Call-ID."""
        self._notes += (self.now, FIRST_LEG if call else LEG, call_id, of, (tenant, user, connection))

    def event(self, event: Doc) -> None:
        """What the core tells (`sipd.events`)."""
        self._notes += (self.now, EVENT, event, self._current, None)

    def decided(self, steps: Sequence[Any], sentence: str) -> None:
        """How it was decided who gets the request that is being handled."""
        self._notes += (self.now, DECIDED, steps, sentence, self._current)

    def step(self, of: str, rule: str, passed: bool, sentence: str) -> None:
        """What came after: a forward, a limit, a fork."""
        self._notes += (self.now, PASSED if passed else FAILED, of, rule, sentence)

    # -- sorting

    def sort(self) -> None:
        """Give each note to its trace. Cheap enough to be done each second, and bounded by `TraceLimits.notes`."""
        notes, self._notes = self._notes, []
        each = iter(notes)
        for at, what, first, second, third in zip(each, each, each, each, each, strict=True):
            if what is IN or what is OUT:
                self._message(at, what, first, second, third)
            elif what is EVENT:
                self._event(at, first, second)
            elif what is LEG or what is FIRST_LEG:
                self._leg(at, first, second, third, call=what is FIRST_LEG)
            elif what is DECIDED:
                self._decided(at, first, second, third)
            else:
                self._step(at, first, second, what is PASSED, third)
        self._bound()

    def _message(self, at: float, way: str, flow: Flow, data: bytes, call_id: str) -> None:
        call_id = _legible(call_id) if call_id else call_id_of(data) or f"unreadable from {shown(flow)}"
        traces = self._legs.get(call_id)
        if traces is None:
            if self._left_out(call_id) or (call_id.startswith(UNTRACED) and (way is OUT or data[:4] == b"SIP/")):
                return
            traces = (self._new(call_id, _kind(data, way), at, data),)
            self._own(traces[0], call_id, "")
        for trace in traces:
            self._add(trace, at, way, flow, data, call_id)

    def _add(self, trace: Trace, at: float, way: str, flow: Flow, data: bytes, call_id: str) -> None:
        limits = self._limits
        if len(data) > limits.message_bytes:
            data = data[: limits.message_bytes]
            self.counters["trace.cut"] += 1
        dropped = trace.dropped
        leg = trace.legs.index(call_id) if call_id in trace.legs else 0
        self._bytes += trace.add(Said(at, way, flow, data, leg, trace.next_no), limits)
        trace.next_no += 1
        if trace.dropped != dropped:
            self.counters["trace.dropped"] += trace.dropped - dropped
        if data.startswith(b"SIP/"):
            _answer(trace, at, way, leg, data)
        self._touch(trace, at)

    def _touch(self, trace: Trace, at: float) -> None:
        trace.touched = at
        if trace.unsaved_since is None:
            trace.unsaved_since = at
            self._unsaved[trace.id] = trace
        self._traces[trace.kind].move_to_end(trace.id)

    def _new(self, id_: str, kind: str, at: float, data: bytes = b"") -> Trace:
        trace = Trace(id_, kind, at)
        if data:
            trace.from_text, trace.to_text = _parties(data)
        self._by_id[id_] = trace
        self._traces[kind][id_] = trace
        return trace

    def _own(self, trace: Trace, call_id: str, tenant: str) -> None:
        """Messages with this Call-ID are the trace's from now on, and those of calls in progress that have it, too.

        Whoever takes the Call-ID of another tenant's call gets none of its messages.
        """
        if len(trace.legs) >= self._limits.legs or call_id in trace.legs:
            return
        trace.legs.append(call_id)
        others = tuple(t for t in self._legs.get(call_id, ()) if t.ended is None and t.kind == "call")
        if all(other.tenant == tenant for other in others):
            self._legs[call_id] = (*others[: SHARED_LEGS - 1], trace)

    def _leg(self, at: float, call_id: str, of: str, who: tuple[str, str, str], *, call: bool) -> None:
        call_id, of = _legible(call_id), _legible(of)
        if of in self._unsampled or (call and self._left_out(call_id) and call_id not in self._legs):
            self._leave_out(of, call_id)
            return
        known = self._legs.get(call_id, ())
        trace = self._by_id.get(of)
        if trace is None and of in self._legs:
            trace = self._legs[of][-1]
        if trace is not None and trace.tenant not in ("", who[0]) and who[0]:
            trace, of = None, call_id  # of another tenant, by its Call-ID: a trace of its own
        if trace is None:
            trace = self._promoted(call_id, of, who[0], at) if call else self._by_id.get(of)
        if trace is None:
            kind = "upstream" if of == call_id and not known else "request"
            trace = self._new(of, kind, at)
        self._own(trace, call_id, who[0])
        if call and trace.kind == "call":
            self._move_last(known, trace, call_id)
            waiting, steps = self._undelivered
            for step in steps if waiting == call_id else ():
                self._tell(trace, at, *step)
            self._undelivered = "", []
        self._belongs(trace, who[0])
        trace.user, trace.connection = who[1] or trace.user, who[2] or trace.connection
        if trace.kind == "upstream":
            self._registrations[_place(trace)] = trace
        self._touch(trace, at)

    def _promoted(self, call_id: str, of: str, tenant: str, at: float) -> Trace:
        """The request that has become a call; a new trace when something else has that Call-ID."""
        trace = self._current_trace(call_id)
        if trace is not None and trace.kind == "request" and trace.tenant in ("", tenant) and trace.legs == [call_id]:
            self._belongs(trace, tenant)
            self._traces[trace.kind].pop(trace.id, None)
            self._by_id.pop(trace.id, None)
            self._unsaved.pop(trace.id, None)
            trace.id, trace.kind, trace.code, trace.reason, trace.rule = of, "call", 0, "", ""
            trace.saved = trace.new_steps = 0
            trace.unsaved_since, trace.handed_over = None, False
            self._by_id[of] = self._traces["call"][of] = trace
            return trace
        return self._new(of, "call", at)

    def _belongs(self, trace: Trace, tenant: str) -> None:
        """It is known now whose trace it is: of what came under its Call-ID, only what that end said or was told stays.

        Anybody may have used the Call-ID before.
        """
        if trace.tenant or not tenant:
            return
        trace.tenant = tenant
        host = trace.messages[-1].flow.host if trace.messages else ""
        kept = [said for said in trace.messages if said.flow.host == host]
        if len(kept) == len(trace.messages):
            return
        trace.saved = sum(said.flow.host == host for said in trace.messages[: trace.saved])
        size = sum(len(said.data) for said in kept)
        self._bytes += size - trace.size
        trace.messages, trace.size, trace.steps, trace.new_steps = kept, size, [], 0
        trace.from_text, trace.to_text = _parties(kept[0].data)
        trace.since = kept[0].at

    def _move_last(self, others: tuple[Trace, ...], trace: Trace, call_id: str) -> None:
        """The INVITE of a second call with the same Call-ID was given to the first, as nobody knew better."""
        for other in others:
            last = other.messages[-1] if other.messages else None
            if other is trace or last is None or last.way != IN or other.legs[last.leg] != call_id:
                continue
            if trace.messages:
                return
            trace.from_text, trace.to_text = _parties(last.data)
            self._add(trace, last.at, IN, last.flow, last.data, call_id)

    def _event(self, at: float, event: Doc, current: str) -> None:
        detail = event["detail"]
        trace = self._by_id.get(detail.get("call", "")) or self._current_trace(current)
        if trace is None:
            trace = self._registrations.get(
                (event.get("tenant", ""), event.get("user", ""), event.get("connection", ""))
            )
        if trace is None or (detail.get("call", trace.id) != trace.id and trace.kind == "call"):
            return
        kind = event["kind"]
        if trace.tenant and event.get("tenant", trace.tenant) != trace.tenant:
            return  # another tenant uses the same Call-ID: what is told of it is not told here
        self._belongs(trace, event.get("tenant", ""))
        for key in ("user", "connection"):
            if event.get(key):
                setattr(trace, key, event[key])
        if kind == "refused":
            trace.code, trace.reason, trace.rule = detail["code"], detail["reason"], event.get("rule", "")
            self._tell(trace, at, trace.rule, False, f"answered {trace.code} {trace.reason}")
        elif kind == "call.started":
            trace.from_text, trace.to_text, trace.direction = detail["from"], detail["to"], detail["direction"]
        elif kind == "call.answered":
            trace.answered, trace.code, trace.reason = at, 200, "OK"
        elif kind == "call.ended":
            trace.ended, trace.code, trace.reason, trace.by = at, detail["code"], detail["reason"], detail["by"]
        elif kind == "registration.changed":
            trace.code, trace.reason = detail.get("code", 0), detail.get("reason", "")
            self._tell(trace, at, detail["state"], detail["state"] == "registered", trace.reason)
        elif kind.startswith("binding."):
            self._tell(trace, at, kind, True, f"{detail.get('contact', '')} {detail.get('reason', '')}")
        self._touch(trace, at)

    def _current_trace(self, call_id: str) -> Trace | None:
        traces = self._legs.get(_legible(call_id))
        return traces[-1] if traces else None

    def _decided(self, at: float, steps: Sequence[Any], sentence: str, call_id: str) -> None:
        trace = self._current_trace(call_id)
        told = [(step.rule, step.passed, step.sentence) for step in steps]
        if sentence:
            told.append(("decision", True, sentence))
        if trace is None or trace.kind == "call":  # which has its decision: this one is for a call that begins now
            self._undelivered = call_id, told
            return
        for one in told:
            self._tell(trace, at, *one)

    def _step(self, at: float, of: str, rule: str, passed: bool, sentence: str) -> None:
        trace = self._by_id.get(of) or self._current_trace(of)
        if trace is not None:
            self._tell(trace, at, rule, passed, sentence)
            self._touch(trace, at)

    def _tell(self, trace: Trace, at: float, rule: str, passed: bool, sentence: str) -> None:
        if len(trace.steps) >= self._limits.steps:
            if trace.kind == "call":
                self.counters["trace.steps_dropped"] += 1
                return
            del trace.steps[0]
            trace.new_steps = max(0, trace.new_steps - 1)
        trace.steps.append({"at": round(at, 6), "rule": rule, "passed": passed, "sentence": _legible(sentence)})

    # -- sampling

    def _left_out(self, call_id: str) -> bool:
        """By the Call-ID itself, so that all messages of a call are kept or none."""
        if call_id in self._unsampled:
            return True
        return zlib.crc32(call_id.encode("utf-8", "surrogateescape")) > self._sample

    def _leave_out(self, *names: str) -> None:
        for name in names:
            self._unsampled[name] = None
        while len(self._unsampled) > self._limits.unsampled:
            self._unsampled.popitem(last=False)

    # -- bounds

    def _bound(self) -> None:
        limits = self._limits
        for kind, traces in self._traces.items():
            while len(traces) > (limits.calls if kind == "call" else limits.others):
                self._remove(next(iter(traces.values())))
        if self._bytes <= limits.total_bytes:
            return
        for trace in sorted(self._by_id.values(), key=lambda trace: trace.touched):
            if self._bytes <= limits.total_bytes * 0.9:  # some more, so that not each time all are sorted
                break
            self.counters["trace.dropped"] += len(trace.messages) - trace.saved
            self._bytes -= trace.forget_messages()

    def _remove(self, trace: Trace) -> None:
        self.counters["trace.evicted"] += 1
        self.counters["trace.dropped"] += len(trace.messages) - trace.saved
        self._bytes -= trace.forget_messages()
        self._traces[trace.kind].pop(trace.id, None)
        self._by_id.pop(trace.id, None)
        self._unsaved.pop(trace.id, None)
        if self._registrations.get(_place(trace)) is trace:
            del self._registrations[_place(trace)]
        for call_id in trace.legs:
            left = tuple(t for t in self._legs.get(call_id, ()) if t is not trace)
            if left:
                self._legs[call_id] = left
            else:
                self._legs.pop(call_id, None)

    # -- out

    def take(self, now: float, *, everything: bool = False) -> list[Batch]:
        """What is new of the traces that have settled, for the store."""
        self.sort()
        batches = []
        for trace in list(self._unsaved.values()):
            since = trace.unsaved_since or 0.0
            if everything or now - trace.touched >= SETTLE or now - since >= SETTLE_AT_MOST:
                messages, steps = trace.messages[trace.saved :], trace.steps[trace.new_steps :]
                batches.append(Batch(trace.about(), messages, steps, first=not trace.handed_over))
                trace.saved, trace.new_steps, trace.unsaved_since = len(trace.messages), len(trace.steps), None
                trace.handed_over = True
                del self._unsaved[trace.id]
        return batches

    def find(self, name: str, tenant: str | None = None) -> Trace | None:
        """By id, or by the Call-ID of one of its legs: the newest, of this tenant if one is given."""
        self.sort()
        named = self._by_id.get(name)
        candidates = ([named] if named is not None else []) + list(reversed(self._legs.get(name, ())))
        return next((trace for trace in candidates if tenant in (None, trace.tenant)), None)

    def __iter__(self) -> Iterator[Trace]:
        """In no order."""
        self.sort()
        return iter(list(self._by_id.values()))


def _place(trace: Trace) -> tuple[str, str, str]:
    """Of a registration at a PBX: ids of tenant, user and connection."""
    return trace.tenant, trace.user, trace.connection


def call_id_of(data: bytes) -> str:
    """The Call-ID of a message; empty when there is none."""
    start = data.find(b"\r\nCall-ID: ")  # as we write it, and nearly everybody
    if start >= 0:
        end = data.find(b"\r\n", start + 11)
        raw = data[start + 11 : end if end >= 0 else None]
    else:
        found = _call_id(data)
        raw = found[1] if found is not None else b""
    return _legible(str(raw[:1000].strip(), "utf-8", "surrogateescape"))


def _answer(trace: Trace, at: float, way: str, leg: int, data: bytes) -> None:
    """What an answer says of the whole: when the caller heard it ring, and how a request that is no call ended."""
    if trace.kind == "call":
        if way is OUT and leg == 0 and trace.ringing is None and data[8:10] == b"18":
            trace.ringing = at
        return
    digits = data[8:11]
    status = int(digits) if digits.isdigit() else 0
    if (way == OUT) != (trace.kind == "upstream") and status >= 200 and not trace.rule:
        trace.code, trace.reason = status, _legible(data[12:100].partition(b"\r")[0].decode("utf-8", "replace"))


def _kind(data: bytes, way: str) -> str:
    if data.startswith(b"SIP/"):
        return "request"
    method = data[:10].partition(b" ")[0]
    if method == b"REGISTER":
        return "registration" if way == IN else "upstream"
    return "subscription" if method in (b"SUBSCRIBE", b"PUBLISH", b"NOTIFY") else "request"


def _parties(data: bytes) -> tuple[str, str]:
    """Who sent a request, and its Request-URI, both without parameters."""
    start, sender = _start(data), _from(data)
    if data.startswith(b"SIP/") or start is None:
        return _uri_text(sender[1]) if sender else "", ""
    return _uri_text(sender[1]) if sender else "", _uri_text(start[2])


def _uri_text(raw: bytes) -> str:
    return _legible(redact(raw.partition(b";")[0]).decode("utf-8", "replace")[:MAX_TEXT])


def _legible(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
