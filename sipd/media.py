"""The node's media relays: instances of rtpengine, spoken to by the ng protocol. Sans-IO.

`outbox` has datagrams and the number of the instance that each goes to; `received` takes what comes back. A `Session`
is one offer and what follows from it. It stays at one instance, unless that is silent when a new offer comes; and is
deleted wherever an instance may know of it, now or when that instance answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sipd.events import Events
from sipd.ng import NgError, Value, message, parse
from sipd.timers import Timer, Timers

REPEAT_SECONDS = (0.2, 0.4, 0.8, 0.8)
"""Between the sendings of a request that gets no answer; after the last the instance is silent."""
PING_SECONDS = 2.0
"""How long a ping waits for its answer."""
MISSES = 3
"""Pings in a row without answer after which an instance is down. An offer or answer that it did not answer leaves one
ping, which is sent at once: no SDP that it stumbles over is reason enough. With any miss, others are preferred."""
MAX_SDP = 32_768
"""Bytes of a session description; a longer one is refused, as no datagram might hold what becomes of it."""
TRIES = 3
"""Instances that one offer is sent to; a caller does not wait for more."""
MAX_ASKED = 10_000
"""Requests that wait for an answer, over all instances. Further offers and answers fail at once, counted as
`media.full`."""
MAX_OWED = 50_000
"""Sessions to be deleted at one instance while it is down. The oldest is left to rtpengine's own timeout."""
DELETES_AT_ONCE = 50
"""Requests to delete that wait for an answer of one instance."""
LEFT_SECONDS = 1.0
"""After a start, before what no call has adopted is deleted: an offer of the time before may still be under way."""
RETRY_AFTER = 5

NO_ROOM = (b"Ran out of ports", b"Parallel session limit reached", b"Load limit exceeded")
"""What an instance that has no room gives as its reason."""

Reply = dict[str, Any]


class Failure(NamedTuple):
    """Why there is no new session description, and what whoever asked for it is answered."""

    status: int
    reason: str
    rule: str
    headers: bytes = b""


NO_RELAY = Failure(503, "No Media Relay", "no-media-relay", f"Retry-After: {RETRY_AFTER}\r\n".encode())
"""No instance answers, or none has room."""
REFUSED = Failure(488, "Not Acceptable Here", "media-refused")
"""An instance cannot use this session description."""
Result = bytes | Failure
Done = Callable[[Result, float], None]


class Instance:
    """One rtpengine."""

    __slots__ = ("address", "deleting", "misses", "number", "owed", "sessions", "since", "up", "used")

    def __init__(self, address: str, number: int) -> None:
        self.address = address
        """`udp:192.0.2.1:2223`."""
        self.number = number
        self.up = True
        self.since = 0.0
        """Since when it is up or down."""
        self.misses = 0
        self.sessions: dict[str, str] = {}
        """That it may know of, and that are not to be deleted, with their calls."""
        self.used = 0
        """When it was chosen last, as a count."""
        self.owed: dict[str, str] = {}
        """Sessions to be deleted, with their calls."""
        self.deleting = 0


class Session:
    """What one offer began, and both ends of it: one call to rtpengine, with a name of its own."""

    __slots__ = ("busy", "call", "ended", "id", "instance", "places")

    def __init__(self, id_: str, call: str) -> None:
        self.id = id_
        self.call = call
        """Id of the call."""
        self.instance: Instance | None = None
        """Where its media is."""
        self.places: dict[Instance, None] = {}
        """All that may know of it."""
        self.busy = 0
        """Requests under way. It is deleted after the last, so that no repetition of one makes it anew."""
        self.ended = False

    @property
    def asked(self) -> Instance | None:
        """The instance that has it, or is asked for it first."""
        return self.instance or next(iter(self.places), None)


class _Asked:
    """A request that waits for its answer."""

    __slots__ = ("data", "done", "instance", "repeats", "timer")

    def __init__(self, instance: Instance, data: bytes, done: Callable[[Reply | None, float], None]) -> None:
        self.instance = instance
        self.data = data
        self.done = done
        self.repeats: list[float] = []
        self.timer: Timer | None = None


class MediaRelays:
    """All instances, and the requests to them. `token` makes random names."""

    def __init__(
        self,
        addresses: Sequence[str],
        timers: Timers,
        events: Events,
        token: Callable[[], str],
        ping_interval: float,
    ) -> None:
        self.instances = [Instance(address, number) for number, address in enumerate(addresses)]
        self.outbox: list[tuple[bytes, int]] = []
        self._timers = timers
        self._events = events
        self._token = token
        self._interval = ping_interval
        self._asked: dict[str, _Asked] = {}
        self._chosen = 0
        self._begun = False
        self._left: dict[tuple[str, str], str] = {}
        """Sessions from before a restart, by address and name, with their calls."""

    # -- health

    def begin(self, now: float) -> None:
        """From now on each instance is asked whether it is there; what a restart left behind will be deleted."""
        if self._begun:
            return
        self._begun = True
        for instance in self.instances:
            instance.since = now
            self._keep_pinging(instance, now)
        if self._left:
            self._timers.set(now + LEFT_SECONDS, self._delete_left)

    def _delete_left(self, now: float) -> None:
        by_address = {instance.address: instance for instance in self.instances}
        for (address, name), call in self._left.items():
            if address in by_address:
                self._owe(by_address[address], name, call, now)
            else:
                self._events.change("media", f"{address} {name}", None)
        self._left.clear()

    def _ping(self, instance: Instance, now: float) -> None:
        def answered(reply: Reply | None, at: float) -> None:
            if reply is None:
                instance.misses += 1
                if instance.misses >= MISSES:
                    self._down(instance, at)

        self._ask(instance, {"command": "ping"}, answered, now, (PING_SECONDS,))

    def _keep_pinging(self, instance: Instance, now: float) -> None:
        self._ping(instance, now)
        self._timers.set(now + self._interval, lambda at: self._keep_pinging(instance, at))

    def _silent(self, instance: Instance, now: float) -> None:
        """It did not answer to a request."""
        suspected, instance.misses = instance.misses >= MISSES - 1, max(instance.misses, MISSES - 1)
        if instance.up and not suspected:
            self._ping(instance, now)

    def _down(self, instance: Instance, now: float) -> None:
        if instance.up:
            instance.up, instance.since = False, now
            self._events.add(now, "media.down", address=instance.address)

    def _heard(self, instance: Instance, now: float) -> None:
        instance.misses = 0
        if not instance.up:
            instance.up, instance.since = True, now
            self._events.add(now, "media.up", address=instance.address)
            self._delete_owed(instance, now)

    def describe(self) -> list[dict[str, Any]]:
        """docs/architecture.md, `status`."""
        wall = self._events.wall
        return [
            {"address": one.address, "up": one.up, "since": wall(one.since), "sessions": len(one.sessions)}
            for one in self.instances
        ]

    # -- requests

    def _ask(
        self,
        instance: Instance,
        fields: Mapping[str, Value],
        done: Callable[[Reply | None, float], None],
        now: float,
        repeats: Sequence[float] = REPEAT_SECONDS,
    ) -> None:
        """Send a request, and again until an answer comes; `done` gets it, or None when the instance is silent."""
        cookie = self._token()
        asked = self._asked[cookie] = _Asked(instance, message(cookie, fields), done)
        asked.repeats = list(repeats)
        self._send(cookie, asked, now)

    def _send(self, cookie: str, asked: _Asked, now: float) -> None:
        self.outbox.append((asked.data, asked.instance.number))
        asked.timer = self._timers.set(now + asked.repeats.pop(0), lambda at: self._again(cookie, at))

    def _again(self, cookie: str, now: float) -> None:
        asked = self._asked[cookie]
        if asked.repeats:
            self._send(cookie, asked, now)
        else:
            del self._asked[cookie]
            asked.done(None, now)

    def received(self, datagram: bytes, number: int, now: float) -> None:
        """What came from an instance."""
        try:
            cookie, reply = parse(datagram)
        except NgError:
            self._events.count("media.malformed")
            return
        asked = self._asked.get(cookie)
        if asked is None or asked.instance.number != number:
            self._events.count("media.stray")
            return
        del self._asked[cookie]
        self._timers.cancel(asked.timer)
        self._heard(asked.instance, now)
        asked.done(reply, now)

    # -- sessions

    def open(self, call: str) -> Session:
        """A session of a call. Nothing is said of it before its first offer."""
        self._events.count("media.sessions")
        return Session(self._token(), call)

    def offer(
        self, session: Session, fields: Mapping[str, Value], done: Done, now: float, beside: Instance | None = None
    ) -> None:
        """Have an offer rewritten. The session's own instance is asked first, or that of another session of the call;
        then the others, the one with the fewest sessions first."""
        self._events.count("media.offers")
        if _too_long(fields):
            self._events.count("media.failures")
            done(REFUSED, now)
            return
        self._try(session, {**fields, "command": "offer"}, done, now, session.instance or beside, [], NO_RELAY)

    def _try(
        self,
        session: Session,
        fields: Mapping[str, Value],
        done: Done,
        now: float,
        first: Instance | None,
        tried: list[Instance],
        failure: Failure,
    ) -> None:
        instance = self._choose(first, tried)
        if instance is None or session.ended:
            self._events.count("media.failures")
            done(failure, now)
            return
        tried.append(instance)
        self._enter(session, instance)

        def answered(result: Result, at: float) -> None:
            if isinstance(result, Failure):
                self._try(session, fields, done, at, None, tried, result)
            else:
                session.instance = instance
                done(result, at)

        self._request(session, instance, fields, answered, now)

    def _choose(self, first: Instance | None, tried: Sequence[Instance]) -> Instance | None:
        there = [instance for instance in self.instances if instance.up and instance not in tried]
        if not there or len(tried) >= TRIES:
            return None
        well = [instance for instance in there if not instance.misses] or there
        chosen = first if first in well else min(well, key=lambda instance: (len(instance.sessions), instance.used))
        self._chosen += 1
        chosen.used = self._chosen
        return chosen

    def answer(self, session: Session, fields: Mapping[str, Value], done: Done, now: float) -> None:
        """Have an answer rewritten, where the offer was."""
        if session.instance is None or session.ended or _too_long(fields):
            self._events.count("media.failures")
            done(REFUSED if _too_long(fields) else NO_RELAY, now)
            return

        def answered(result: Result, at: float) -> None:
            if isinstance(result, Failure):
                self._events.count("media.failures")
            done(result, at)

        self._request(session, session.instance, {**fields, "command": "answer"}, answered, now)

    def _request(
        self, session: Session, instance: Instance, fields: Mapping[str, Value], done: Done, now: float
    ) -> None:
        if len(self._asked) >= MAX_ASKED:
            self._events.count("media.full")
            done(NO_RELAY, now)
            return
        session.busy += 1

        def answered(reply: Reply | None, at: float) -> None:
            session.busy -= 1
            if reply is None:
                self._silent(instance, at)
            if session.ended and not session.busy:
                self._delete(session, at)
            done(_result(reply), at)

        self._ask(instance, {**fields, "call-id": session.id}, answered, now)

    def _enter(self, session: Session, instance: Instance) -> None:
        """Note, before it is asked, that an instance may know of a session; on disk as well."""
        if instance not in session.places:
            session.places[instance] = None
            instance.sessions[session.id] = session.call
            self._events.change("media", f"{instance.address} {session.id}", {"call": session.call})

    # -- the end of sessions

    def end(self, session: Session, now: float) -> None:
        """Delete a session wherever it may be. May be called again."""
        if not session.ended:
            session.ended = True
            if not session.busy:
                self._delete(session, now)

    def _delete(self, session: Session, now: float) -> None:
        for instance in session.places:
            instance.sessions.pop(session.id, None)
            self._owe(instance, session.id, session.call, now)
        session.places.clear()

    def _owe(self, instance: Instance, name: str, call: str, now: float) -> None:
        instance.owed[name] = call
        if len(instance.owed) > MAX_OWED:
            oldest = next(iter(instance.owed))
            del instance.owed[oldest]
            self._events.count("media.deletes_dropped")
            self._events.change("media", f"{instance.address} {oldest}", None)
        self._delete_owed(instance, now)

    def _delete_owed(self, instance: Instance, now: float) -> None:
        while instance.up and instance.owed and instance.deleting < DELETES_AT_ONCE:
            name, call = next(iter(instance.owed.items()))
            del instance.owed[name]
            instance.deleting += 1
            self._ask_to_delete(instance, name, call, now)

    def _ask_to_delete(self, instance: Instance, name: str, call: str, now: float) -> None:
        def answered(reply: Reply | None, at: float) -> None:
            instance.deleting -= 1
            if reply is None:
                instance.owed[name] = call
                self._silent(instance, at)
                self._timers.set(at + self._interval, lambda then: self._delete_owed(instance, then))
            else:  # whatever it says: it does not know the session any more
                self._events.change("media", f"{instance.address} {name}", None)
                self._delete_owed(instance, at)

        self._ask(instance, {"command": "delete", "call-id": name, "delete delay": 0}, answered, now)

    # -- over a restart

    def restore(self, key: str, record: Mapping[str, Any]) -> None:
        """A session from before a restart; `begin` deletes it unless its call is still there to `adopt` it."""
        address, _, name = key.partition(" ")
        self._left[address, name] = str(record.get("call", ""))

    def restate(self) -> None:
        """Note all sessions once more, as changes: the store has lost what it had."""
        left = [(address, name, call) for (address, name), call in self._left.items()]
        held = [(i.address, name, call) for i in self.instances for name, call in {**i.sessions, **i.owed}.items()]
        for address, name, call in (*left, *held):
            self._events.change("media", f"{address} {name}", {"call": call})

    def adopt(self, name: str, address: str, call: str) -> Session:
        """The session of a call that goes on after a restart, whose media was at an instance by its address. That may
        be gone from the settings since: then it has none until its next offer."""
        session = Session(name, call)
        for instance in self.instances:
            if self._left.pop((instance.address, session.id), None) is not None:
                session.places[instance] = None
                instance.sessions[session.id] = call
                if instance.address == address:
                    session.instance = instance
        return session


def _too_long(fields: Mapping[str, Value]) -> bool:
    sdp = fields["sdp"]
    return isinstance(sdp, bytes) and len(sdp) > MAX_SDP


def _result(reply: Reply | None) -> Result:
    """What an answer to an offer or answer means."""
    if reply is None or reply.get("result") == b"load limit" or reply.get("error-reason") in NO_ROOM:
        return NO_RELAY
    sdp = reply.get("sdp")
    return sdp if reply.get("result") == b"ok" and isinstance(sdp, bytes) and sdp else REFUSED
