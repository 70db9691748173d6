"""Requests inside the dialogs of a call: passed to the other leg, answered with what comes back.

ACK, BYE, re-INVITE, UPDATE, PRACK, INFO, MESSAGE, NOTIFY, REFER, OPTIONS (RFC 3261 12.2, 14, 15).
"""

from __future__ import annotations

from sipd.auth import Proof
from sipd.calls import Calls, Core
from sipd.dialogs import TARGET_REFRESH, Dialog, lines_to_pass
from sipd.flow import Flow
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.methods import ALLOW, not_taken
from sipd.timers import Timer
from sipd.transaction.layer import ClientTransaction, ServerTransaction

AFTER_BYE = frozenset(("NOTIFY", "BYE"))
"""What an ended dialog still takes for a while (RFC 5057, RFC 3515)."""


class Relay:
    """One request on its way from one leg to the other."""

    __slots__ = ("_service", "cancelled", "client", "proof", "source", "target", "timer", "tx")

    def __init__(self, service: InDialog, tx: ServerTransaction, source: Dialog, target: Dialog, proof: Proof) -> None:
        self._service = service
        self.tx = tx
        self.source = source
        self.target = target
        self.proof = proof
        self.client: ClientTransaction | None = None
        self.cancelled = False
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
        status = not_taken(request.method)
        if status:
            self.answer(tx, status, now, [ALLOW])
            return
        dialog = self._calls.find(request)
        if dialog is None:
            self.answer(tx, 481, now)
            return
        number = request.cseq.number
        if number <= dialog.remote_seq and request.method != "PRACK":
            self.answer(tx, 500, now, [("Retry-After", "1")])  # out of order (RFC 3261 12.2.2)
            return
        dialog.remote_seq = max(number, dialog.remote_seq)
        if request.method == "BYE":
            self._bye(tx, dialog, now)
        elif dialog.call.ended and request.method not in AFTER_BYE:
            self.answer(tx, 481, now)
        elif request.method == "INVITE":
            self._reinvite(tx, dialog, now)
        else:
            self._pass_on(tx, dialog, now)

    def answer(self, tx: ServerTransaction, status: int, now: float, headers: list[Header] | None = None) -> None:
        data = build.response(tx.request, status, None, self._core.wire.token(), headers or [], b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)

    # -- ACK and BYE

    def on_ack(self, request: Message, flow: Flow, now: float) -> None:
        """The ACK of a 2xx: stops our 2xx, and lets the other leg's ACK go, with its body (late offer)."""
        dialog = self._calls.find(request)
        if dialog is None or dialog.ok is None or dialog.ok.seq != request.cseq.number or dialog.peer is None:
            return
        if dialog.pinned:
            dialog.flow = flow
        self._calls.send_ack(dialog.peer, lines_to_pass(request, from_phone=dialog.pinned), request.body)
        self._calls.acknowledged(dialog, now)

    def _bye(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        self.answer(tx, 200, now)
        call = dialog.call
        self._calls.no_bye(dialog)  # who hangs up waits for none
        if call.ended:
            return
        if call.pair is None:  # an early dialog: the caller gives up, or what rang will not be answered
            if dialog.branch is None:
                self._calls.on_cancel(call, now)
            else:
                self._calls.on_callee_gone(dialog.branch, now)
            return
        call.by = "caller" if dialog.branch is None else "callee"
        self._calls.send_ack(dialog, b"", b"")
        rest = lines_to_pass(tx.request, from_phone=dialog.pinned)
        self._calls.part(dialog.other, now, rest, tx.request.body)
        self._calls.end(call, 200, "Normal Clearing", now)

    # -- everything else

    def _reinvite(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        """RFC 3261 14.2: one INVITE at a time in each direction."""
        peer = dialog.peer
        if peer is None or dialog.call.pair is None:
            self.answer(tx, 491 if peer else 481, now)
        elif dialog.pending is not None or dialog.ok is not None:
            self.answer(tx, 491, now)  # we are asking this end already
        elif peer.pending is not None:
            self.answer(tx, 500, now, [("Retry-After", "2")])  # its own last one is not answered yet
        else:
            self.answer(tx, 100, now)
            self._pass_on(tx, dialog, now)

    def _pass_on(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        peer = dialog.peer
        if peer is None:
            self.answer(tx, 481, now)
            return
        if tx.method in TARGET_REFRESH:
            dialog.learn(tx.request, tx.source, self._core.wire, now)
        relay = Relay(self, tx, dialog, peer, self._calls.proof(peer.account))
        tx.owner = relay
        if tx.method == "INVITE":
            peer.pending = relay
            self._wait(relay, now)
        self._send(relay, [], now)

    def _send(self, relay: Relay, credentials: list[Header], now: float) -> None:
        peer, request, wire = relay.target, relay.tx.request, self._core.wire
        seq = peer.next_seq()
        headers: list[Header] = [*credentials, *self._calls.renamed(request, peer.call.index)]
        if request.method == "PRACK":
            headers.append(("RAck", self._rack(request, peer)))
        branch = wire.branch()
        rest = lines_to_pass(request, from_phone=relay.source.pinned)
        data = peer.request(wire, request.method, branch, seq, headers, request.body, rest)
        relay.client = self._core.layer.request(data, request.method, branch, peer.flow, (self, relay), now)

    def _rack(self, request: Message, peer: Dialog) -> str:
        """RAck names the CSeq of the INVITE, which is another on the other leg (RFC 3262 7.2)."""
        words = (request.get("rack") or "").split()
        seq = peer.branch.seq if peer.branch is not None else peer.call.request.cseq.number
        return f"{words[0]} {seq} INVITE" if words and words[0].isdigit() else "0 0 INVITE"

    def on_response(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
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
        if status < 300 and tx.method in TARGET_REFRESH:
            peer.learn(response, tx.flow, self._core.wire, now)
            headers.append(("Contact", relay.source.contact))
        if 200 <= status < 300 and tx.method == "INVITE":
            peer.unacked = response.cseq.number
        if status in (401, 407):
            status = 403
        self._relay_status(relay, status, response.reason, headers, response.body, now)
        if status in (408, 481) and tx.method != "NOTIFY":  # RFC 3261 12.2.1.2; a NOTIFY may have its own dialog
            self._calls.hang_up(peer.call, status, response.reason, now)

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

    def on_failure(self, tx: ClientTransaction, relay: Relay, reason: str, now: float) -> None:
        self._settled(relay)
        if relay.cancelled:
            self._relay_status(relay, 487, "Request Terminated", [], b"", now)
            return
        status = 408 if reason == "timeout" else 503
        self._relay_status(relay, status, reason.capitalize(), [], b"", now)
        if status == 408 and tx.method != "NOTIFY":  # a lost stream may be replaced, silence is the end (12.2.1.2)
            self._calls.hang_up(relay.target.call, 408, "No Answer In The Dialog", now)

    def on_cancel(self, relay: Relay, now: float, reason: bytes = b"") -> None:
        """CANCEL of a re-INVITE: the other leg's is cancelled, and its 487 comes back by itself."""
        if relay.client is not None and not relay.cancelled:
            relay.cancelled = True
            self._core.layer.cancel(relay.client, [reason], now)
