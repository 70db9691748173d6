"""Media relaying in calls: which calls have it, what each end is offered, and the order of messages that wait for it.

docs/calls.md, "Media relay". To rtpengine a `Session` has two sides, the caller's and the callee's; each INVITE that
we send has a session of its own, as what it offers depends on who gets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sipd.flow import SECURE, WEB, Flow
from sipd.media import Failure, Instance, MediaRelays, Result, Session
from sipd.message.message import Message
from sipd.ng import Value
from sipd.sdp import Part, find, is_secure, protocol_of

if TYPE_CHECKING:
    from sipd.calls import Branch, Call, Core
    from sipd.dialogs import Dialog
    from sipd.routing.model import Connection

RELAY = "relay"
MAX_HELD = 32
"""Messages of one leg that wait behind one that is being rewritten. Further ones are dropped, and come again."""
CALLER, CALLEE = "caller", "callee"
"""The sides of a session, as rtpengine tells them apart (its tags). A PBX that forks answers with several tags of its
own: for rtpengine they are the one callee, whose media is where its newest answer says."""
OTHER = {CALLER: CALLEE, CALLEE: CALLER}

OFFERING = frozenset(("INVITE", "UPDATE", "PRACK"))
ANSWERING = frozenset(("ACK", "PRACK"))

REWRITTEN: Mapping[str, Value] = {"replace": ["origin", "session-connection"]}
"""In every request: nothing in the SDP tells of the other end's address."""
STRICT = "strict-source"
"""Media is taken from where it came from at first, and from nowhere else."""
FROM_SOURCE = "SIP-source-address"
"""A phone's own idea of its address is not believed: media goes to where its SIP comes from, until media comes. A
WebSocket may come by way of a proxy; ICE finds the browser behind it."""

Next = Callable[[Result, float], None]


class End(NamedTuple):
    """Who sends or gets a session description."""

    phone: bool
    flow: Flow


class Kind(NamedTuple):
    """What an SDP offers, as far as an end must be able to do it."""

    protocol: str
    """Of the streams."""
    ice: bool = False
    mux: bool = False
    """RTP and RTCP over one port."""

    def fields(self) -> dict[str, Value]:
        """What rtpengine is told to make an offer into."""
        fields: dict[str, Value] = {
            "transport-protocol": self.protocol,
            "ICE": "force" if self.ice else "remove",
            "rtcp-mux": ["require" if self.mux else "demux"],
        }
        if not self.protocol.startswith("UDP/TLS/"):
            fields["DTLS"] = "off"
        if self.protocol not in ("RTP/SAVP", "RTP/SAVPF"):
            fields["SDES"] = ["off"]
        return fields


BROWSER = Kind("UDP/TLS/RTP/SAVPF", ice=True, mux=True)
ENCRYPTED = Kind("RTP/SAVP")
PLAIN = Kind("RTP/AVP")
PROTOCOLS = frozenset((
    "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF",
))  # fmt: skip
"""Those between which rtpengine bridges."""


def profile(to: End, *, secure: bool) -> Kind:
    """What an offer is made into for who has not said yet what it can do; `secure`: SRTP was offered.

    | to                  | offered                                |
    |---------------------|----------------------------------------|
    | a WebSocket phone   | ICE and DTLS-SRTP, one port            |
    | a phone over TLS    | SRTP with its keys in the SDP (SDES)   |
    | another phone       | plain RTP                              |
    | a PBX over TLS      | as the phone offers: SDES, else plain  |
    | another PBX         | plain RTP                              |
    """
    transport = to.flow.transport
    if to.phone and transport in WEB:
        return BROWSER
    return ENCRYPTED if transport in SECURE and (to.phone or secure) else PLAIN


def kind_of(sdp: bytes) -> Kind | None:
    """What an end can do, by its own SDP; None: it names nothing that is bridged."""
    protocol = protocol_of(sdp)
    return Kind(protocol, b"\na=ice-ufrag:" in sdp, b"\na=rtcp-mux" in sdp) if protocol in PROTOCOLS else None


def offer_fields(sdp: bytes, side: str, sender: End, to: End, spoken: Kind | None = None) -> dict[str, Value]:
    """An offer of one side of a session. `spoken`: what the other side has said that it can do."""
    kind = spoken or profile(to, secure=is_secure(sdp))
    fields = {**_fields(sdp, sender), **kind.fields(), "from-tag": side, "to-tag": OTHER[side]}
    if (":" in sender.flow.host) != (":" in to.flow.host):
        fields["address family"] = "IP6" if ":" in to.flow.host else "IP4"
    return fields


def answer_fields(sdp: bytes, side: str, sender: End) -> dict[str, Value]:
    """An answer of one side: it becomes what the other side's offer was."""
    return {**_fields(sdp, sender), "from-tag": OTHER[side], "to-tag": side}


def _fields(sdp: bytes, sender: End) -> dict[str, Value]:
    flags = [STRICT, FROM_SOURCE] if sender.phone and sender.flow.transport not in WEB else [STRICT]
    family = "IP6" if ":" in sender.flow.host else "IP4"
    return {"sdp": sdp, "flags": flags, "received from": [family, sender.flow.host], **REWRITTEN}


class Way(NamedTuple):
    """What is done with a message of a leg."""

    rewrite: Callable[[Message, Next, float], bool]
    """Begins to rewrite it, and says True; False: it passes as it is."""
    go_on: Callable[[Message, float], None]
    give_up: Callable[[Message, Failure, float], None]
    """It cannot be rewritten."""


class Line:
    """Messages of one leg in their order: while one is rewritten, those behind it wait."""

    __slots__ = ("_busy", "_waiting")

    def __init__(self) -> None:
        self._busy = False
        self._waiting: deque[tuple[Message, Way]] = deque()

    def pass_on(self, message: Message, way: Way, now: float) -> bool:
        """At once or in its turn. False: the line is full, and the message is dropped."""
        if not self._busy:
            self._begin(message, way, now)
        elif len(self._waiting) >= MAX_HELD:
            return False
        else:
            self._waiting.append((message, way))
        return True

    def _begin(self, message: Message, way: Way, now: float) -> None:
        def rewritten(result: Result, at: float) -> None:
            try:
                if isinstance(result, Failure):
                    way.give_up(message, result, at)
                else:
                    way.go_on(message.with_body(result), at)
            finally:
                self._free(at)

        waits, self._busy = False, True  # before, as what is asked may fail at once
        try:
            waits = way.rewrite(message, rewritten, now)
        finally:
            self._busy = self._busy and waits
        if not waits:
            way.go_on(message, now)

    def _free(self, now: float) -> None:
        """A message has gone on: those behind it follow."""
        self._busy = False
        while self._waiting and not self._busy:
            try:
                self._begin(*self._waiting.popleft(), now)
            except Exception:
                self._free(now)  # one that raises takes no other along
                raise


class Bridge:
    """One session of a call, between its caller and one callee."""

    __slots__ = ("acking", "answered", "line", "offered", "owed", "session", "spoken")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.line = Line()
        """Of answers to the INVITE that began it."""
        self.offered = False
        """Whether that INVITE had an offer."""
        self.owed = ""
        """The side whose offer has no answer yet."""
        self.answered: tuple[bytes, bytes] = (b"", b"")
        """The last answer of the callee to it, as it came and as it went: in a 183 and in the 200 it is the same."""
        self.spoken: dict[str, Kind] = {}
        """By side: what it can do, by its own last SDP. It is offered no other."""
        self.acking: object = None
        """The 2xx of ours whose ACK waits."""

    def settle(self) -> None:
        """The INVITE has its answer."""
        self.answered = (b"", b"")

    def heard(self, side: str, sdp: bytes) -> None:
        """What a side says of itself."""
        kind = kind_of(sdp)
        if kind is not None:
            self.spoken[side] = kind


class Bridging:
    """The bridges of all calls."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._relays: MediaRelays = core.media

    def wanted(self, call: Call, connection: Connection | None) -> bool:
        """Whether an INVITE that a call sends, through a connection or to a phone, has its media relayed: if the
        connection that the call came in by or goes out through says so, and between phones the default one."""
        first = call.connection
        if first is None and connection is None:
            first = call.index.connections.get(call.index.tenant.default_connection)
        return (first is not None and first.media == RELAY) or (connection is not None and connection.media == RELAY)

    def _open(self, branch: Branch) -> Bridge:
        branch.bridge = Bridge(self._relays.open(branch.call.id))
        return branch.bridge

    def close(self, bridge: Bridge | None, now: float) -> None:
        """That INVITE, or the call that it became, is over. May be called again."""
        if bridge is not None:
            self._relays.end(bridge.session, now)

    def kept(self, bridge: Bridge) -> dict[str, Any] | None:
        """For the record of a call: what `resume` makes its bridge of."""
        session = bridge.session
        if session.instance is None:
            return None
        spoken = {side: list(kind) for side, kind in bridge.spoken.items()}
        return {"id": session.id, "at": session.instance.address, "owed": bridge.owed, "spoken": spoken}

    def resume(self, kept: Mapping[str, Any], call: str) -> Bridge:
        """The bridge of a call that goes on after a restart."""
        bridge = Bridge(self._relays.adopt(str(kept["id"]), str(kept["at"]), call))
        bridge.owed = str(kept["owed"])
        bridge.spoken = {side: Kind(*kind) for side, kind in kept["spoken"].items()}
        return bridge

    def plainer(self, branch: Branch, bridge: Bridge) -> bool:
        """Whether the offer that a phone refused had SRTP and may be made once more without."""
        to = End(branch.pinned, branch.flow)
        was = bridge.offered and not bridge.spoken.get(CALLEE) and profile(to, secure=False) is ENCRYPTED
        if was:
            bridge.spoken[CALLEE] = PLAIN
        return was

    # -- one message

    def part(self, message: Message) -> Part | None:
        """The session description in a message; a body that has none that can be read is counted."""
        part = find(message)
        if part is None and message.body:
            self._core.events.count("media.untouched")
        return part

    def offer(
        self, bridge: Bridge, message: Message, side: str, sender: End, to: End, then: Next, now: float,
        beside: Instance | None = None,
    ) -> bool:  # fmt: skip
        """Have the offer in a message rewritten; `then` gets the whole new body. False: there is none in it."""
        part = self.part(message)
        if part is None:
            return False
        sdp = part.of(message.body)
        fields = offer_fields(sdp, side, sender, to, bridge.spoken.get(OTHER[side]))
        bridge.heard(side, sdp)

        def offered(result: Result, at: float) -> None:
            if not isinstance(result, Failure):
                bridge.owed = side
            self._told(bridge, "offer", result)
            then(_body(message, part, result), at)

        self._relays.offer(bridge.session, fields, offered, now, beside)
        return True

    def answer(self, bridge: Bridge, message: Message, side: str, sender: End, then: Next, now: float) -> bool:
        """The same with an answer."""
        part = self.part(message)
        if part is None:
            return False

        def answered(result: Result, at: float) -> None:
            if not isinstance(result, Failure):
                bridge.owed = ""
            self._told(bridge, "answer", result)
            then(_body(message, part, result), at)

        sdp = part.of(message.body)
        bridge.heard(side, sdp)
        self._relays.answer(bridge.session, answer_fields(sdp, side, sender), answered, now)
        return True

    def _told(self, bridge: Bridge, what: str, result: Result) -> None:
        """For the trace: which instance; nothing of the session descriptions, as keys are in them."""
        session = bridge.session
        if isinstance(result, Failure):
            self._core.events.step(session.call, "media", f"{what} failed: {result.reason}", passed=False)
        elif session.instance is not None:
            self._core.events.step(session.call, "media", f"{what} through {session.instance.address}")

    def within(self, bridge: Bridge, request: Message, source: Dialog, target: Dialog, then: Next, now: float) -> bool:
        """A request inside a dialog, on its way to the other: INVITE and UPDATE offer, an ACK answers, a PRACK does
        either (RFC 6337 section 2.2). False: it says nothing of media."""
        side = side_of(source)
        answers = request.method in ANSWERING and bridge.owed == OTHER[side]
        if not answers and request.method not in OFFERING:
            return False
        if answers:
            return self.answer(bridge, request, side, end_of(source), then, now)
        return self.offer(bridge, request, side, end_of(source), end_of(target), then, now)

    def back(
        self, bridge: Bridge, request: Message, response: Message, source: Dialog, target: Dialog, then: Next,
        now: float,
    ) -> bool:  # fmt: skip
        """What comes back to such a request from `target`: an answer, or the offer that an INVITE did not make."""
        if request.method not in OFFERING or not 100 < response.status < 300:
            if response.status >= 300 and bridge.owed == side_of(source):
                bridge.owed = ""
            return False
        side = side_of(target)
        if request.method == "INVITE" and find(request) is None:
            return self.offer(bridge, response, side, end_of(target), end_of(source), then, now)
        return self.answer(bridge, response, side, end_of(target), then, now)

    # -- the INVITE of a branch, and what comes back

    def offer_first(self, branch: Branch, then: Next, now: float) -> bool:
        """The caller's offer for one callee; False when it makes none."""
        call = branch.call
        bridge = branch.bridge or self._open(branch)
        caller, callee = End(call.caller is not None, call.tx.source), End(branch.pinned, branch.flows[0])
        others = [one.bridge.session.asked for one in call.branches if one.bridge is not None]
        beside = next((instance for instance in others if instance is not None), None)
        bridge.offered = self.offer(bridge, call.request, CALLER, caller, callee, then, now, beside)
        return bridge.offered

    def answer_first(self, branch: Branch, bridge: Bridge, response: Message, then: Next, now: float) -> bool:
        """What a callee answers to that offer, or offers where there was none; False: it says nothing of media."""
        call, callee = branch.call, End(branch.pinned, branch.flow)
        if not bridge.offered:
            caller = End(call.caller is not None, call.tx.source)
            return self.offer(bridge, response, CALLEE, callee, caller, then, now)
        came, went = bridge.answered
        if came and came == response.body:
            then(went, now)
            return True

        def answered(result: Result, at: float) -> None:
            if not isinstance(result, Failure):
                bridge.answered = response.body, result
            then(result, at)

        return self.answer(bridge, response, CALLEE, callee, answered, now)


def bridge_of(dialog: Dialog) -> Bridge | None:
    """The media relaying of a dialog's call, from either side."""
    branch = dialog.branch or (dialog.peer.branch if dialog.peer is not None else None)
    return branch.bridge if branch is not None else None


def side_of(dialog: Dialog) -> str:
    return CALLER if dialog.branch is None else CALLEE


def end_of(dialog: Dialog) -> End:
    return End(dialog.pinned, dialog.flow)


def _body(message: Message, part: Part, result: Result) -> Result:
    return result if isinstance(result, Failure) else part.replaced(message.body, result)
