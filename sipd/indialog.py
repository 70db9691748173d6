"""Requests inside the dialogs of a call: passed to the other leg, answered with what comes back.

ACK, BYE, re-INVITE, UPDATE, PRACK, INFO, MESSAGE, NOTIFY, REFER, OPTIONS (RFC 3261 12.2, 14, 15).
"""

from __future__ import annotations

from functools import partial

from sipd.auth import Proof
from sipd.bridging import Bridge, Line, Next, Way, bridge_of
from sipd.calls import Calls, Core
from sipd.dialogs import TARGET_REFRESH, Dialog, lines_to_pass
from sipd.flow import Flow
from sipd.media import Failure, Result
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.methods import ALLOW, not_taken, not_understood
from sipd.relayed import challenges_of, credentials_of, passes
from sipd.sending import Sending
from sipd.session import TIMED, too_small
from sipd.subscriptions import refused_subscription, state_of
from sipd.timers import Timer
from sipd.transaction.layer import ClientTransaction, ServerTransaction

NOT_INSIDE = frozenset(("PUBLISH", "REGISTER"))
AFTER_BYE = frozenset(("NOTIFY", "SUBSCRIBE", "BYE"))
"""What an ended dialog still takes for a while (RFC 5057, RFC 3515)."""
BYE_SECONDS = 32.0
"""For a phone to hang up with credentials that the PBX wants."""
MAX_USAGES = 8
"""Event types in one dialog for which NOTIFYs are waited for after its end."""


class Relay:
    """One request on its way from one leg to the other."""

    __slots__ = (
        "_service", "body", "bridge", "cancelled", "line", "proof", "sending", "seq", "source", "target", "timer", "tx",
    )  # fmt: skip

    def __init__(self, service: InDialog, tx: ServerTransaction, source: Dialog, target: Dialog, proof: Proof) -> None:
        self._service = service
        self.tx = tx
        self.source = source
        self.target = target
        self.proof = proof
        self.sending: Sending | None = None
        self.seq = 0
        """CSeq on the other leg."""
        self.cancelled = False
        self.body = tx.request.body
        """As the other leg gets it."""
        self.bridge: Bridge | None = None
        self.line: Line | None = None
        """Answers that wait until the media relay has rewritten them; None: media is not relayed."""
        self.timer: Timer | None = None
        """How long an INVITE may stay without news (RFC 3261 16.6, timer C)."""

    def give_up(self, now: float) -> None:
        """The call ended meanwhile."""
        self._service.give_up(self, now)


class InDialog:
    """Finds the dialog of a request and serves it."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        request = tx.request
        status = 405 if request.method in NOT_INSIDE else not_taken(request.method)
        if status:
            self.answer(tx, status, now, [ALLOW])
            return
        dialog = self._calls.find(request)
        if dialog is None:
            self.answer(tx, 481, now)
            return
        number = request.cseq.number
        if number <= dialog.remote_seq and request.method != "PRACK":
            self._out_of_order(tx, dialog, now)
            return
        dialog.remote_seq = max(number, dialog.remote_seq)
        small = too_small(request, self._core.settings)
        missing = not_understood(request)
        if dialog.pinned:
            self._calls.moved(dialog, tx.source)
        if request.method == "BYE":
            self._bye(tx, dialog, now)
        elif request.max_forwards == 0:
            self.answer(tx, 483, now)
        elif missing is not None:
            self.answer(tx, 420, now, missing)
        elif small is not None:
            self.answer(tx, 422, now, small)
        elif dialog.call.ended and request.method not in AFTER_BYE:
            self.answer(tx, 481, now)
        elif request.method == "INVITE":
            self._reinvite(tx, dialog, now)
        elif request.method == "UPDATE":
            self._update(tx, dialog, now)
        else:
            self._pass_on(tx, dialog, now)

    def answer(self, tx: ServerTransaction, status: int, now: float, headers: list[Header] | None = None) -> None:
        data = build.response(tx.request, status, None, self._core.wire.token(), headers or [], b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)

    def _out_of_order(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        """RFC 3261 12.2.2. What was answered before a restart, and comes again, has its answer."""
        ok = dialog.ok
        if tx.method == "BYE" and dialog.call.ended:
            self.answer(tx, 200, now)
        elif tx.method == "INVITE" and ok is not None and ok.seq == tx.request.cseq.number:
            self._core.layer.respond(tx, 200, ok.data, now)
        else:
            self.answer(tx, 500, now, [("Retry-After", "1")])

    # -- ACK and BYE

    def on_ack(self, request: Message, flow: Flow, now: float) -> None:
        """The ACK of a 2xx: stops our 2xx, and lets the other leg's ACK go, with its body (late offer)."""
        dialog = self._calls.find(request)
        if dialog is None or dialog.ok is None or dialog.ok.seq != request.cseq.number or dialog.peer is None:
            return
        if dialog.pinned:
            self._calls.moved(dialog, flow)
        bridge = bridge_of(dialog)
        if bridge is None or not self._ack_in_turn(bridge, request, dialog, now):
            self._acknowledge(dialog, request, request.body, now)

    def _acknowledge(self, dialog: Dialog, ack: Message, body: bytes, now: float) -> None:
        rest = b"".join([lines_to_pass(ack, from_phone=dialog.pinned), *_proof(ack, dialog.other)])
        self._calls.send_ack(dialog.other, rest, body)
        self._calls.acknowledged(dialog, now)

    def _ack_in_turn(self, bridge: Bridge, ack: Message, dialog: Dialog, now: float) -> bool:
        """An ACK with the answer to a late offer waits until that is rewritten; it may come again meanwhile."""
        ok = dialog.ok
        if ok is not None and bridge.acking is ok:
            return True

        def rewritten(result: Result, at: float) -> None:
            bridge.acking = None
            if dialog.ok is not ok:  # hung up, or answered in another way
                return
            if isinstance(result, Failure):
                self._acknowledge(dialog, ack, b"", at)
                self._calls.hang_up(dialog.call, result.status, result.reason, at)
            else:
                self._acknowledge(dialog, ack, result, at)
                self._calls.keep_media(dialog.call, bridge)

        bridge.acking = ok
        waits = self._calls.bridging.within(bridge, ack, dialog, dialog.other, rewritten, now)
        bridge.acking = bridge.acking if waits else None
        return waits

    def _bye(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        call, peer = dialog.call, dialog.peer
        if not call.ended and call.pair is not None and peer is not None and passes(peer.account) and peer.ok is None:
            self._ask_to_end(tx, dialog, now)
            return
        self.answer(tx, 200, now)
        self._calls.no_bye(dialog, now)  # who hangs up waits for none
        if call.ended:
            return
        if call.pair is None:  # an early dialog: the caller gives up, or what rang will not be answered
            if dialog.branch is None:
                self._calls.on_cancel(call, now)
            else:
                self._calls.on_callee_gone(dialog.branch, now)
            return
        self._calls.send_ack(dialog, b"", b"")
        rest = lines_to_pass(tx.request, from_phone=dialog.pinned)
        self._calls.part(dialog.other, now, rest, tx.request.body)
        self._end(dialog, now)

    def _end(self, dialog: Dialog, now: float) -> None:
        """At this end somebody hung up."""
        dialog.call.by = "caller" if dialog.branch is None else "callee"
        self._calls.end(dialog.call, 200, "Normal Clearing", now)

    def _ask_to_end(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        """A BYE that the PBX may challenge, and only the phone can answer that: it passes like other requests."""
        self._calls.no_bye(dialog, now)
        for leg in (dialog, dialog.other):
            self._calls.send_ack(leg, b"", b"")
        self._pass_on(tx, dialog, now)

    def _bye_answered(self, relay: Relay, status: int, now: float) -> None:
        """Should the phone not come back with credentials that the PBX wants, the call ends all the same."""
        call = relay.source.call
        if status not in (401, 407):
            self._end(relay.source, now)
        else:
            self._core.timers.set(now + BYE_SECONDS, lambda at: self._calls.hang_up(call, 408, "BYE Not Proved", at))

    # -- everything else

    def _reinvite(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        """RFC 3261 14.2: one INVITE at a time in each direction."""
        peer = dialog.peer
        if peer is None or dialog.call.pair is None:
            self.answer(tx, 491 if peer else 481, now)
        elif dialog.pending is not None or dialog.ok is not None or _offers(dialog.updating):
            self.answer(tx, 491, now)  # we are asking this end already
        elif peer.pending is not None:
            self.answer(tx, 500, now, [("Retry-After", "2")])  # its own last one is not answered yet
        else:
            self.answer(tx, 100, now)
            self._pass_on(tx, dialog, now)

    def _update(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        """RFC 3311 5.2: one UPDATE at a time in each direction, and one offer at a time in all."""
        peer, offers = dialog.peer, bool(tx.request.body)
        if peer is not None and (peer.updating is not None or (offers and peer.pending is not None)):
            self.answer(tx, 500, now, [("Retry-After", "2")])  # its own last one is not answered yet
        elif offers and (dialog.pending is not None or _offers(dialog.updating)):
            self.answer(tx, 491, now)  # we are asking this end already
        else:
            self._pass_on(tx, dialog, now)

    def _pass_on(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        peer = dialog.peer
        if peer is None:
            self.answer(tx, 481, now)
            return
        # RFC 3261 12.2, RFC 3311 5.2; a REFER's or NOTIFY's Contact is of its own usage (RFC 5057).
        if tx.method in TIMED:
            dialog.learn(tx.request, tx.source, self._core.wire, now)
        relay = Relay(self, tx, dialog, peer, self._calls.proof(peer.account))
        tx.owner = relay
        if tx.method == "INVITE":
            peer.pending = relay
            self._wait(relay, now)
        elif tx.method == "UPDATE":
            peer.updating = relay
        bridge = relay.bridge = bridge_of(peer)
        if bridge is None or not self._bridge(relay, bridge, now):
            self._send(relay, [], now)

    def _bridge(self, relay: Relay, bridge: Bridge, now: float) -> bool:
        """Send a request when the media relay has rewritten what it offers; False: it says nothing of media."""

        def rewritten(result: Result, at: float) -> None:
            if relay.cancelled:
                return
            if relay.target.call.ended:
                self._settled(relay)
                self._relay_status(relay, 481, "Call/Transaction Does Not Exist", [], b"", at)
            elif isinstance(result, Failure):
                self._settled(relay)
                self._relay_status(relay, result.status, result.reason, [result.headers], b"", at)
            else:
                relay.body = result
                self._send(relay, [], at)
                self._calls.keep_media(relay.target.call, bridge)

        relay.line = Line()
        return self._calls.bridging.within(bridge, relay.tx.request, relay.source, relay.target, rewritten, now)

    def _send(self, relay: Relay, credentials: list[Header], now: float) -> None:
        peer, request, wire = relay.target, relay.tx.request, self._core.wire
        self._calls.reach(peer, now)
        seq = relay.seq = self._calls.next_seq(peer)
        headers: list[Header] = [*credentials, *_proof(request, peer), *self._renamed(request, peer)]
        if request.method in TIMED:
            headers += self._calls.sessions.offer(peer.call, request)
        if request.method == "PRACK":
            headers.append(("RAck", self._rack(request, peer)))
        rest = lines_to_pass(request, from_phone=relay.source.pinned)

        def over(flow: Flow, branch: str) -> bytes:
            hops = request.max_forwards
            return peer.request(wire, request.method, branch, seq, headers, relay.body, rest, flow, hops)

        flows = relay.sending.onward if relay.sending is not None else peer.flows
        relay.sending = self._core.sender.request(request.method, flows, over, (self, relay), now, pinned=peer.pinned)

    def _renamed(self, request: Message, peer: Dialog) -> list[Header]:
        index = peer.call.index
        return self._calls.renamed(request, index, self._calls.connection_of(peer, index))

    def _rack(self, request: Message, peer: Dialog) -> str:
        """RAck names the CSeq of an INVITE, the first or a later one; it is another on the other leg (RFC 3262 7.2)."""
        words = (request.get("rack") or "").split()
        later: Relay | None = peer.pending
        if later is not None and words[1:2] == [str(later.tx.request.cseq.number)]:
            seq = later.seq
        else:
            seq = peer.branch.seq if peer.branch is not None else peer.call.request.cseq.number
        return f"{words[0]} {seq} INVITE" if words and words[0].isascii() and words[0].isdigit() else "0 0 INVITE"

    def on_response(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
        if relay.bridge is None or relay.line is None:
            self._heard(tx, relay, response, now)
        else:
            self._heard_in_turn(tx, relay, relay.bridge, relay.line, response, now)

    def _heard_in_turn(
        self, tx: ClientTransaction, relay: Relay, bridge: Bridge, line: Line, response: Message, now: float
    ) -> None:
        """What the other end says, in its order, with its session description rewritten."""

        def rewrite(message: Message, then: Next, at: float) -> bool:
            late = tx.method == "INVITE" and relay.target.pending is not relay
            source, target = relay.source, relay.target
            return not late and self._calls.bridging.back(bridge, relay.tx.request, message, source, target, then, at)

        way = Way(rewrite, partial(self._heard, tx, relay), partial(self._unusable, relay))
        if not line.pass_on(response, way, now):
            self._core.events.count("media.dropped")

    def _unusable(self, relay: Relay, response: Message, failure: Failure, now: float) -> None:
        """An answer without a way for its media, to an end that has taken the change: the call ends."""
        if relay.tx.method == "INVITE" and response.status >= 200:
            relay.target.unacked = response.cseq.number
        self._calls.hang_up(relay.target.call, failure.status, failure.reason, now)

    def _heard(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
        status = response.status
        peer = relay.target
        if tx.method == "INVITE" and peer.pending is not relay:
            self._late(relay, response)
            return
        if tx.method == "INVITE" and status < 200:
            self._wait(relay, now)
        if status == 100:
            return
        if status in (401, 407) and self._authenticate(relay, response, now):
            return
        if status >= 200:
            self._settled(relay)
        headers: list[Header] = [lines_to_pass(response, from_phone=peer.pinned)]
        if status < 300:
            headers += self._taken(tx, relay, response, now)
        if status in (401, 407) and passes(peer.account):
            headers += challenges_of(response)
        elif status in (401, 407):
            status = 403
        self._relay_status(relay, status, response.reason, headers, response.body, now)
        if tx.method == "BYE" and status >= 200:
            self._bye_answered(relay, status, now)
        if status in (408, 481) and _ends_call(relay):
            self._calls.hang_up(peer.call, status, response.reason, now)

    def _taken(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> list[Header]:
        """What a 1xx or 2xx changes, and its headers that are the leg's own."""
        peer, headers, final = relay.target, list[Header](), response.status >= 200
        if tx.method in TARGET_REFRESH:
            headers.append(("Contact", relay.source.contact))
        if tx.method in TIMED:
            peer.learn(response, tx.flow, self._core.wire, now)
            if final:
                headers += self._calls.sessions.answered(peer.call, relay.tx.request, response, now)
        if final:
            self._note_usage(relay, response, now)
            if tx.method == "INVITE":
                peer.unacked = response.cseq.number
            if tx.method in TIMED or peer.usages or relay.source.usages:
                self._calls.keeping.changed(peer.call)
        return headers

    def _note_usage(self, relay: Relay, response: Message, now: float) -> None:
        """A REFER or SUBSCRIBE that was taken has NOTIFYs come, also after the BYE, until one says it was the last."""
        request, life = relay.tx.request, self._core.settings.refer_life
        event = (request.get("event") or "refer").partition(";")[0].strip().lower()
        if request.method == "NOTIFY":
            state = state_of(request)
            relay.source.usages.pop(event, None)
            if not state.over and request.has("subscription-state"):
                _await_notifies(relay.source, event, now + life)  # many say 60 seconds, and ring for longer
        elif request.method == "SUBSCRIBE" or (request.method == "REFER" and not refused_subscription(response)):
            _await_notifies(relay.target, event, now + life)

    def _late(self, relay: Relay, response: Message) -> None:
        """An answer to an INVITE that is settled: a 2xx gets its ACK, as often as it comes (RFC 3261 13.2.2.4)."""
        peer, seq = relay.target, response.cseq.number
        if not 200 <= response.status < 300:
            return
        if peer.call.ended and peer.unacked != seq and seq not in peer.acks:
            peer.unacked = seq
            self._calls.send_ack(peer, b"", b"")
        else:
            self._calls.ack_again(peer, response)

    def _wait(self, relay: Relay, now: float) -> None:
        """Each provisional answer begins the time anew."""
        self._core.timers.cancel(relay.timer)
        at = now + self._core.settings.caller_timeout
        relay.timer = self._core.timers.set(at, lambda then: self.on_cancel(relay, then))

    def _settled(self, relay: Relay) -> None:
        self._core.timers.cancel(relay.timer)
        if relay.target.pending is relay:
            relay.target.pending = None
        if relay.target.updating is relay:
            relay.target.updating = None

    def give_up(self, relay: Relay, now: float) -> None:
        """The call ended while this INVITE was under way: it is answered all the same (RFC 3261 15.1.2)."""
        self.on_cancel(relay, now)
        self._settled(relay)
        self._relay_status(relay, 487, "Request Terminated", [], b"", now)

    def _relay_status(
        self, relay: Relay, status: int, reason: str, headers: list[Header], body: bytes, now: float
    ) -> None:
        source = relay.source
        data = build.response(relay.tx.request, status, reason, source.local_tag, headers, body, relay.tx.source[1:3])
        self._core.layer.respond(relay.tx, status, data, now)
        if 200 <= status < 300 and relay.tx.method == "INVITE":
            self._calls.await_ack(source, relay.tx, data, now)

    def _authenticate(self, relay: Relay, response: Message, now: float) -> bool:
        if relay.cancelled:
            return False
        found = relay.proof.headers(response, relay.tx.method, relay.target.request_uri, self._core.wire.token())
        if found is not None:
            self._send(relay, [*found], now)
        return found is not None

    def on_late_answer(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
        """A 2xx of a target that was given up for the next one: the dialog is the same, and so is the ACK."""
        self._late(relay, response)

    def on_failure(self, sending: Sending, relay: Relay, reason: str, now: float) -> None:
        self._settled(relay)
        if relay.cancelled:
            self._relay_status(relay, 487, "Request Terminated", [], b"", now)
            return
        status = 408 if reason == "timeout" else 503
        self._relay_status(relay, status, reason.capitalize(), [], b"", now)
        if relay.tx.method == "BYE":
            self._bye_answered(relay, status, now)
        if status == 408 and _ends_call(relay):  # a lost stream may be replaced, silence is the end (12.2.1.2)
            self._calls.hang_up(relay.target.call, 408, "No Answer In The Dialog", now)

    def on_cancel(self, relay: Relay, now: float, reason: bytes = b"") -> None:
        """CANCEL of a re-INVITE: the other leg's is cancelled, and its 487 comes back by itself."""
        if relay.cancelled:
            return
        relay.cancelled = True
        if relay.sending is not None:
            self._core.sender.cancel(relay.sending, [reason], now)
        else:  # it waits for the media relay, and is not sent
            self._settled(relay)
            self._relay_status(relay, 487, "Request Terminated", [], b"", now)


def _proof(request: Message, leg: Dialog) -> list[bytes]:
    """A phone's credentials, where it has to answer the challenges of the PBX at this leg itself (RFC 3261 22.1)."""
    return credentials_of(request) if passes(leg.account) else []


def _await_notifies(dialog: Dialog, event: str, until: float) -> None:
    """The newest first; of more than `MAX_USAGES` the oldest is forgotten."""
    others = [(name, at) for name, at in dialog.usages.items() if name != event]
    dialog.usages = {event: until, **dict(others[: MAX_USAGES - 1])}


def _offers(relay: Relay | None) -> bool:
    """Whether an UPDATE is under way that offers a session."""
    return relay is not None and bool(relay.tx.request.body)


def _ends_call(relay: Relay) -> bool:
    """Whether 481 or silence is the end of the call (RFC 3261 12.2.1.2, RFC 5057 5.1).

    Not of one that only rings: another fork may answer. A subscription in the dialog ends alone, and 481 to a PRACK
    means the provisional answer (RFC 3262 3).
    """
    answered = relay.target.call.pair is not None
    return answered and relay.tx.method not in ("NOTIFY", "SUBSCRIBE", "PRACK")
