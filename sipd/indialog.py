"""Requests inside the dialogs of a call: passed to the other leg, answered with what comes back.

ACK, BYE, re-INVITE, UPDATE, PRACK, INFO, MESSAGE, NOTIFY, REFER, OPTIONS (RFC 3261 12.2, 14, 15).
"""

from __future__ import annotations

from sipd.calls import Calls, Core
from sipd.dialogs import NOT_PASSED, TARGET_REFRESH, Dialog
from sipd.flow import Flow
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.transaction.layer import ClientTransaction, ServerTransaction

AFTER_BYE = frozenset(("NOTIFY", "BYE"))
"""What an ended dialog still takes for a while (RFC 5057, RFC 3515)."""


class Relay:
    """One request on its way from one leg to the other."""

    __slots__ = ("challenged", "client", "source", "target", "tx")

    def __init__(self, tx: ServerTransaction, source: Dialog, target: Dialog) -> None:
        self.tx = tx
        self.source = source
        self.target = target
        self.client: ClientTransaction | None = None
        self.challenged = False


class InDialog:
    """Finds the dialog of a request and serves it."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        request = tx.request
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
        self._calls.stop_ok(dialog)
        if dialog.pinned:
            dialog.flow = flow
        if not dialog.call.ended:
            self._calls.send_ack(dialog.peer, request.rest(NOT_PASSED), request.body)

    def _bye(self, tx: ServerTransaction, dialog: Dialog, now: float) -> None:
        self.answer(tx, 200, now)
        call = dialog.call
        if call.ended:
            return
        caller = dialog.branch is None
        if call.pair is None:  # an early dialog: the caller gives up, or a phone takes its ringing back
            if caller:
                self._calls.on_cancel(call, now)
            return
        peer = dialog.other
        call.by = "caller" if caller else "callee"
        for leg in (dialog, peer):
            self._calls.stop_ok(leg)
        if peer.branch is not None and not peer.ack:
            self._calls.send_ack(peer, b"", b"")
        self._calls.send_bye(peer, now, tx.request.rest(NOT_PASSED), tx.request.body)
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
            dialog.learn(tx.request, tx.source, self._core.wire)
        relay = Relay(tx, dialog, peer)
        tx.owner = relay
        if tx.method == "INVITE":
            peer.pending = relay
        self._send(relay, [], now)

    def _send(self, relay: Relay, credentials: list[Header], now: float) -> None:
        peer, request, wire = relay.target, relay.tx.request, self._core.wire
        seq = peer.next_seq()
        if request.method == "INVITE":
            peer.invite_seq, peer.ack = seq, b""
        headers: list[Header] = list(credentials)
        if request.method == "PRACK":
            headers.append(("RAck", self._rack(request, peer)))
        branch = wire.branch()
        data = peer.request(wire, request.method, branch, seq, headers, request.body, request.rest(NOT_PASSED))
        relay.client = self._core.layer.request(data, request.method, branch, peer.flow, (self, relay), now)

    def _rack(self, request: Message, peer: Dialog) -> str:
        """RAck names the CSeq of the INVITE, which is another on the other leg (RFC 3262 7.2)."""
        words = (request.get("rack") or "").split()
        seq = peer.invite_seq if peer.branch is not None else peer.call.request.cseq.number
        return f"{words[0]} {seq} INVITE" if words and words[0].isdigit() else "0 0 INVITE"

    def on_response(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
        status = response.status
        peer = relay.target
        if status == 100:
            return
        if 200 <= status < 300 and relay.client is not tx:
            return
        if 200 <= status < 300 and tx.method == "INVITE" and (peer.pending is not relay):
            if peer.ack:  # the same 2xx again
                self._core.wire.send(peer.ack, peer.flow)
            return
        if status in (401, 407) and self._authenticate(relay, response, now):
            return
        if status >= 200 and peer.pending is relay:
            peer.pending = None
        headers: list[Header] = [response.rest(NOT_PASSED)]
        if status < 300 and tx.method in TARGET_REFRESH:
            peer.learn(response, tx.flow, self._core.wire)
            headers.append(("Contact", relay.source.contact))
        if status in (401, 407):
            status = 403
        self._relay_status(relay, status, response.reason, headers, response.body, now)
        if status in (408, 481) and tx.method in ("INVITE", "UPDATE"):
            self._calls.hang_up(peer.call, status, response.reason, now)  # RFC 3261 12.2.1.2

    def _relay_status(
        self, relay: Relay, status: int, reason: str, headers: list[Header], body: bytes, now: float
    ) -> None:
        source = relay.source
        data = build.response(relay.tx.request, status, reason, source.local_tag, headers, body, relay.tx.source[1:3])
        self._core.layer.respond(relay.tx, status, data, now)
        if 200 <= status < 300 and relay.tx.method == "INVITE":
            self._calls.await_ack(source, relay.tx, data, now)

    def _authenticate(self, relay: Relay, response: Message, now: float) -> bool:
        branch = relay.target.branch
        if relay.challenged or branch is None:
            return False
        uri, _ = relay.target._route()
        found = self._calls.credentials(branch, response, relay.tx.method, uri)
        if found is None:
            return False
        relay.challenged = True
        self._send(relay, [found], now)
        return True

    def on_failure(self, tx: ClientTransaction, relay: Relay, reason: str, now: float) -> None:
        if relay.target.pending is relay:
            relay.target.pending = None
        self._relay_status(relay, 408 if reason == "timeout" else 503, reason.capitalize(), [], b"", now)
        if tx.method in ("INVITE", "UPDATE"):
            self._calls.hang_up(relay.target.call, 408, "No Answer In The Dialog", now)

    def on_cancel(self, relay: Relay, now: float) -> None:
        """CANCEL of a re-INVITE: the other leg's is cancelled, and its 487 comes back by itself."""
        if relay.client is not None:
            self._calls.cancel(relay.client, [], now)
