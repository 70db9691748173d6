"""Calls: one A leg, one or more B legs (RFC 7092 signalling-only back-to-back user agent).

An INVITE that was let in becomes a `Call`. `hunting` decides where it goes: to a user's phones (a `Branch`
each) or out through a connection (one `Branch`). The first 2xx wins, the others are cancelled, and the pair of
dialogs is joined. What happens inside the dialogs is in `indialog`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sipd.auth import PbxAccount, Proof, account_of
from sipd.bridging import Bridge, Bridging, Next, Way
from sipd.dialogs import (
    Dialog,
    Leg,
    PendingOk,
    header_text,
    hops_left,
    is_reliable,
    lines_to_pass,
    offers_100rel,
    routes,
    target_of,
    unreliable_lines,
)
from sipd.events import Events, legible
from sipd.flow import Flow
from sipd.history import Forward
from sipd.keepalive import KeepAlive
from sipd.keeping import Keeping, legs_of, rang
from sipd.limits import CallLimits, Scope
from sipd.media import Failure, MediaRelays, Result
from sipd.message import build
from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.grammar import bracketed, quote
from sipd.message.message import Message
from sipd.message.uri import Uri, quote_user
from sipd.naming import DialogName, renamed
from sipd.registrar import Binding, Registrar, preference
from sipd.relayed import StableNames, challenges_of, credentials_of, passes
from sipd.replacing import find_target
from sipd.rounds import Round
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import Connection, Group, User
from sipd.routing.seal import Cipher
from sipd.sending import Sender, Sending
from sipd.session import Sessions, knows_timers, least_of
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.transaction.layer import T1, T2, ClientTransaction, Layer, ServerTransaction
from sipd.wayout import WayOut
from sipd.wire import Wire

ELSEWHERE = ("Reason", 'SIP;cause=200;text="Call completed elsewhere"')
"""On the CANCEL to phones that rang in vain (RFC 3326)."""
OK_LIFE = 64 * T1
"""How long a 2xx waits for its ACK (RFC 3261 13.3.1.4)."""
DOUBT_SECONDS = 2.0
"""How long a BYE of ours waits for the ACK of a 2xx from before a restart: it may have come then."""
PROOF_SECONDS = 10.0
"""For a phone to answer a PBX's challenge to its INVITE."""
MAX_TEXT = 200
"""Characters of a URI in a record."""
MAX_DIALOGS = 20
"""Dialogs that the answers to one INVITE may make (RFC 3261 12.1.2 names no bound). Further 18x pass without one,
and further 2xx, once the call is answered, are left to give up."""

NO_SRTP = (415, 488, 606)
"""What a phone says that takes no SRTP."""


@dataclass(frozen=True, slots=True)
class Core:
    """What the parts of the core share."""

    settings: Settings
    wire: Wire
    layer: Layer
    sender: Sender
    timers: Timers
    events: Events
    limits: CallLimits
    registrar: Registrar
    keepalive: KeepAlive
    cipher: Cipher
    table: Callable[[], Compiled]
    """The table in force now."""
    ways: WayOut
    """To PBXs."""
    media: MediaRelays
    peer_names: dict[Flow, frozenset[str]] = field(default_factory=dict)
    """DNS names in the verified certificates of those at the other end of TLS connections, as long as these last."""


class Call:
    """One call, from the INVITE that began it to the end of both legs."""

    __slots__ = (
        "answered_at", "asked", "branches", "by", "callee", "caller", "code", "connection", "direction", "ended",
        "forwarding", "forwards", "from_text", "group", "id", "index", "kept", "local_tags", "media", "pair", "parent",
        "payers", "rang", "rang_before", "reason", "replaces", "request", "round", "scopes", "started", "to_text", "tx",
        "visited",
    )  # fmt: skip

    def __init__(self, call_id: str, tx: ServerTransaction, index: TenantIndex, direction: str, now: float) -> None:
        self.id = call_id
        self.tx = tx
        self.request: Message = tx.request
        self.index = index
        self.direction = direction
        """"in" from a PBX, "out" through one, "internal" between phones."""
        self.caller: User | None = None
        """The user that calls; None when a PBX does."""
        self.connection: Connection | None = None
        """Where a call from a PBX came in."""
        self.callee: User | None = None
        """The user who answered, or whose phones ring now."""
        self.group: Group | None = None
        """The group that rings now."""
        self.asked = ""
        """User part of who was called in the beginning."""
        self.payers: tuple[User, ...] = ()
        """Users with whose account the call may go out, in order."""
        self.forwards: list[Forward] = []
        """Forwards that were followed."""
        self.visited: set[tuple[str, str]] = set()
        """The users and groups that the call came to: kind and id."""
        self.scopes: list[Scope] = []
        """What the call counts in now; each is there as often as it counts."""
        self.round: Round | None = None
        """What rings now."""
        self.branches: list[Branch] = []
        self.pair: Dialog | None = None
        """The A leg's dialog, once answered."""
        self.local_tags: list[str] = []
        """Our tags towards the caller, one per early dialog."""
        self.forwarding: Dialog | None = None
        """The early dialog with the caller in which we tell of forwards."""
        self.parent: Call | None = None
        """The call of ours that came back from a PBX as this one."""
        self.replaces = False
        """It takes the place of another (RFC 3891): it goes to that phone, and nowhere else when that fails."""
        self.started = now
        self.rang = False
        """Whether somebody has rung."""
        self.answered_at: float | None = None
        self.ended = False
        self.code, self.reason = 0, ""
        """How it ended."""
        self.by = "edge"
        self.kept: frozenset[str] = frozenset()
        """Records of it that are in the store."""
        self.rang_before: dict[str, Any] | None = None
        """Of a call from before a restart: whom it came to."""
        self.media: Any = None
        """What its media need to be ended after a restart: opaque JSON. Who changes it calls `Keeping.began`."""
        self.from_text = _plain_uri(self.request.from_.uri_text)
        self.to_text = _plain_uri(self.request.uri)

    @property
    def place(self) -> tuple[str | None, str, str | None]:
        """Whom the caller named."""
        uri = Uri.parse(self.request.uri)
        return uri.user, uri.host, uri.param("local-domain")

    @property
    def active(self) -> list[Branch]:
        return [branch for branch in self.branches if not branch.done]


@dataclass(frozen=True, slots=True)
class Final:
    """A branch's final answer other than 2xx."""

    status: int
    reason: str
    headers: bytes = b""
    """Lines that pass to the caller."""
    body: bytes = b""
    redirect: str = ""
    """URI of the preferred Contact of a 3xx."""
    rule: str = ""
    """Why the edge says so, when it is not the other end's word."""


class Branch:
    """One INVITE that we sent for a call, and the dialogs that its answers made."""

    __slots__ = (
        "account", "bindings", "body", "bridge", "call", "call_id", "cancelled", "connection", "contact",
        "contact_over", "dialogs", "done", "flow", "flows", "from_value", "headers", "least", "local_tag", "pinned",
        "proof", "rang", "rest", "round", "scopes", "sending", "seq", "timer", "to_value", "uri", "user",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        uri: str,
        flows: Sequence[Flow],
        from_value: str,
        to_value: str,
        contact_over: Callable[[Flow], str],
    ) -> None:
        self.call = call
        self.round: Round | None = None
        self.user: User | None = None
        """Whose phone it is, or as whom the call goes out."""
        self.connection: Connection | None = None
        """Through which it goes out."""
        self.scopes: list[Scope] = []
        """What counts as long as this branch lives."""
        self.rang = False
        """Whether more than 100 came back."""
        self.uri = uri
        self.flows = flows
        """Targets in order of preference."""
        self.bindings: dict[Flow, Binding] = {}
        """Of a phone that has several flows, or proxies before it: what it registered over each."""
        self.flow = flows[0]
        """The one that is tried."""
        self.from_value = from_value
        """Without tag."""
        self.to_value = to_value
        self.contact_over = contact_over
        """Our Contact as the other end of a flow reaches it."""
        self.contact = ""
        self.pinned = False
        self.headers: list[Header] = []
        self.rest = b""
        self.body = call.request.body
        self.bridge: Bridge | None = None
        """Its media relaying; None: its bodies pass untouched."""
        self.least = 0
        """Min-SE that its other end asked for (RFC 4028)."""
        self.account: PbxAccount | None = None
        """Whose credentials answer a challenge."""
        self.proof: Proof | None = None
        self.call_id = ""
        self.local_tag = ""
        self.seq = 0
        self.sending: Sending | None = None
        self.dialogs: dict[str, Dialog] = {}
        self.cancelled = False
        self.done = False
        self.timer: Timer | None = None

    @property
    def route(self) -> Sequence[Header]:
        """Through the proxies before a phone (RFC 3327)."""
        binding = self.bindings.get(self.flow)
        return [("Route", value) for value in binding.path] if binding is not None else ()


class Bye:
    """A BYE that we sent."""

    __slots__ = ("body", "dialog", "proof", "rest")

    def __init__(self, dialog: Dialog, rest: bytes, body: bytes, proof: Proof) -> None:
        self.dialog = dialog
        self.rest = rest
        self.body = body
        self.proof = proof


class Hunting(Protocol):
    """Where a call goes next: see `hunting`."""

    def failed(self, branch: Branch, final: Final, now: float) -> None:
        """A branch is over without an answer."""

    def answered(self, branch: Branch) -> None:
        """The first answer came."""


class Calls:
    """All calls of a node, and the dialogs by which in-dialog requests find them."""

    hunting: Hunting
    """Set by what decides where calls go, which is made after this."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.calls: dict[str, Call] = {}
        self.dialogs: dict[tuple[str, str], Dialog] = {}
        """By our side of it: Call-ID and local tag (RFC 3261 12)."""
        self.sessions = Sessions(core, self)
        self.bridging = Bridging(core)
        self.keeping = Keeping(core, self.sessions)
        self._sent: dict[str, Call] = {}
        """By the Call-IDs of our INVITEs: a PBX that is a proxy sends them back unchanged."""
        self._unproved: dict[tuple[str, ...], Branch] = {}
        """Those whose challenge a phone has to answer."""
        self.names = StableNames(core.wire.token)

    def find(self, message: Message) -> Dialog | None:
        """The dialog of a request that came to us: our tag is in its To, the other end's in its From.

        Early forks of one INVITE share our tag, and differ in the other end's.
        """
        return self.find_named(message.call_id, message.to.tag or "", message.from_.tag or "")

    def find_named(self, call_id: str, ours: str, theirs: str) -> Dialog | None:
        dialog = self.dialogs.get((call_id, ours))
        if dialog is None or dialog.remote_tag == theirs:
            return dialog
        return dialog.branch.dialogs.get(theirs) if dialog.branch is not None else None

    def reach(self, dialog: Dialog, now: float) -> None:
        """Send to where the phone is now."""
        user = dialog.call.caller if dialog.branch is None else dialog.branch.user
        if dialog.pinned and user is not None:
            flow = self._core.registrar.flow_of((dialog.call.index.tenant.id, user.id), dialog.target, dialog.flow, now)
            self.moved(dialog, flow)

    def moved(self, dialog: Dialog, flow: Flow) -> None:
        """A phone is here now: NATs give out new ports."""
        if flow != dialog.flow:
            dialog.send_to(flow)
            self.keeping.changed(dialog.call)

    def next_seq(self, dialog: Dialog) -> int:
        """The CSeq of our next request in a dialog: one that a restart will not repeat."""
        seq = dialog.next_seq()
        if seq > dialog.kept_seq:
            self.keeping.changed(dialog.call)
        return seq

    def renamed(self, request: Message, index: TenantIndex, towards: Connection | None = None) -> list[Header]:
        """Headers of a request that name a call of the tenant, by its name on the other leg: a PBX's or a phone's."""

        def rename(name: DialogName) -> DialogName | None:
            dialog = self.dialogs.get((name.call_id, name.asked))
            if dialog is None or dialog.peer is None or dialog.remote_tag != name.asking:
                return None
            if dialog.call.index.tenant.id != index.tenant.id:
                return None
            return DialogName(dialog.peer.call_id, dialog.peer.remote_tag, dialog.peer.local_tag)

        return renamed(request, rename, lambda uri: self._host_towards(uri, index, towards))

    def target_leg(self, request: Message, index: TenantIndex) -> Dialog | None:
        """The leg of the call that a request outside of it is about."""
        return find_target(request, index.tenant.id, self.find_named)

    def _host_towards(self, uri: Uri, index: TenantIndex, towards: Connection | None) -> str | None:
        """What a Refer-To names, as a phone of the tenant or the PBX of a connection dials it."""
        if towards is not None:
            return towards.registrar_domain if self._core.table().stands_for(index, uri.host) else None
        return index.tenant.primary_domain if index.has_pbx_at(uri.host) else None

    def connection_of(self, leg: Leg, index: TenantIndex) -> Connection | None:
        """The connection behind a leg; None for a phone's."""
        if leg.pinned:
            return None
        at = leg.account.connection if leg.account is not None else index.tenant.default_connection
        return index.connections.get(at)

    # -- beginning

    def begin(self, tx: ServerTransaction, index: TenantIndex, direction: str, now: float) -> Call:
        """Raises BadMessage when the request's routes could not be used (RFC 3261 12.1.1)."""
        routes(tx.request)
        call = Call(self._core.wire.token(12), tx, index, direction, now)
        tx.owner = call
        call.parent = self._sent.get(tx.request.call_id)
        self.calls[call.id] = call
        self.keeping.began(call)
        self._core.events.leg(tx.request.call_id, call.id, tenant=index.tenant.id, call=True)
        self._core.layer.respond(tx, 100, build.response(tx.request, 100, received=tx.source[1:3]), now)
        return call

    def invite(self, branch: Branch, now: float) -> None:
        """Send a branch's INVITE for the first time."""
        call, wire = branch.call, self._core.wire
        branch.call_id = wire.token(16)
        branch.local_tag = wire.token()
        branch.proof = self.proof(branch.account)
        branch.headers += self.renamed(call.request, call.index, branch.connection)
        call.branches.append(branch)
        self._core.events.leg(branch.call_id, call.id)
        self._core.events.step(call.id, "leg", f"INVITE to {branch.uri.partition(';')[0]}")
        self._sent[branch.call_id] = call
        self._offer(branch, now)

    def _offer(self, branch: Branch, now: float) -> None:
        """Send the INVITE, by way of the media relay if there is one."""
        if self.bridging.wanted(branch.call, branch.connection):
            self._bridge(branch, now)
        else:
            self._send_invite(branch, [], now)

    def _bridge(self, branch: Branch, now: float) -> None:
        """Send the INVITE when the media relay has rewritten its offer; at once if it makes none."""

        def rewritten(result: Result, at: float) -> None:
            if branch.cancelled or branch.done:  # meanwhile
                self._end_branch(branch)
                self.bridging.close(branch.bridge, at)
            elif isinstance(result, Failure):
                self.fail(branch, _without_media(result), at)
            else:
                branch.body = result
                self._send_invite(branch, [], at)

        if not self.bridging.offer_first(branch, rewritten, now):
            self._send_invite(branch, [], now)

    def _send_invite(self, branch: Branch, credentials: list[Header], now: float) -> None:
        branch.seq += 1
        flows = branch.sending.onward if branch.sending is not None else branch.flows

        def invite(flow: Flow, via_branch: str) -> bytes:
            branch.flow, branch.contact = flow, branch.contact_over(flow)
            self.keeping.began(branch.call)
            if flow in branch.bindings:
                branch.uri = target_of(branch.bindings[flow].contact)
            return self._invite_over(branch, via_branch, credentials)

        branch.sending = self._core.sender.request("INVITE", flows, invite, (self, branch), now, pinned=branch.pinned)

    def _invite_over(self, branch: Branch, via_branch: str, credentials: list[Header]) -> bytes:
        return build.request(
            "INVITE",
            branch.uri,
            [
                ("Via", self._core.wire.via(branch.flow, via_branch)),
                ("Max-Forwards", hops_left(branch.call.request.max_forwards)),
                ("From", f"{branch.from_value};tag={branch.local_tag}"),
                ("To", branch.to_value),
                ("Call-ID", branch.call_id),
                ("CSeq", f"{branch.seq} INVITE"),
                ("Contact", branch.contact),
                *branch.route,
                *branch.headers,
                *self.sessions.offer(branch.call, branch.call.request, branch.least),
                *(credentials_of(branch.call.request) if passes(branch.account) else credentials),
            ],
            branch.body,
            branch.rest,
        )

    # -- answers from the B legs

    def on_response(self, tx: ClientTransaction, sent: Branch | Bye, response: Message, now: float) -> None:
        if isinstance(sent, Bye):
            if not (response.status in (401, 407) and self._bye_again(sent, response, now)) and response.status >= 200:
                self.keeping.told(sent.dialog, now)
            return
        if sent.bridge is None:
            self._heard(sent, response, now)
        else:
            self._heard_in_turn(sent, sent.bridge, response, now)

    def _heard_in_turn(self, branch: Branch, bridge: Bridge, response: Message, now: float) -> None:
        """What a callee says, in its order, with its session description rewritten."""

        def rewrite(message: Message, then: Next, at: float) -> bool:
            wanted = self._brings_media(branch, message)
            return wanted and self.bridging.answer_first(branch, bridge, message, then, at)

        way = Way(rewrite, partial(self._heard, branch), partial(self._unusable, branch))
        if not bridge.line.pass_on(response, way, now):
            self._core.events.count("media.dropped")

    def _brings_media(self, branch: Branch, response: Message) -> bool:
        """Whether an answer to an INVITE says where media goes: not one that comes again, or that nobody wants."""
        if not 100 < response.status < 300 or branch.done or branch.cancelled or branch.call.pair is not None:
            return False
        dialog = branch.dialogs.get(response.to.tag or "")
        return dialog is None or not (dialog.acks or dialog.unacked)

    def _unusable(self, branch: Branch, response: Message, failure: Failure, now: float) -> None:
        """An answer without a way for its media: it is given up."""
        self.cancel(branch, now)
        if response.status >= 200:
            self._heard(branch, response, now)  # acknowledged, and ended with BYE
        if not branch.call.ended and branch.call.pair is None:
            self.fail(branch, _without_media(failure), now)

    def _heard(self, branch: Branch, response: Message, now: float) -> None:
        status = response.status
        if status < 200:
            self._provisional(branch, response, now)
        elif status < 300:
            self._ok(branch, response, now)
        elif not branch.done:
            if status in (401, 407) and self._challenged(branch, response, now):
                return
            if status == 422 and self._lengthen(branch, response, now):
                return
            if status in NO_SRTP and self._decrypt(branch, now):
                return
            self.fail(branch, _final(response, from_phone=branch.pinned), now)

    def on_stray_response(self, response: Message, now: float) -> None:
        """A 2xx after its transaction is gone: acknowledged again, so that the other end stops sending it."""
        if response.method != "INVITE" or not 200 <= response.status < 300:
            return
        dialog = self.dialogs.get((response.call_id, response.from_.tag or ""))
        if dialog is not None and dialog.remote_tag == response.to.tag:
            self.ack_again(dialog, response)

    def ack_again(self, dialog: Dialog, response: Message) -> None:
        """The same 2xx again: the same ACK again, once there is one. Of an INVITE from before a restart the ACK is
        made anew: that it was lost is why the 2xx comes."""
        seq = response.cseq.number
        data = dialog.acks.get(seq)
        if data is None and dialog.resumed and dialog.unacked != seq:
            data = dialog.request(self._core.wire, "ACK", self._core.wire.branch(), seq, [])
        if data is not None:
            self._core.wire.send(data, dialog.flow)

    def on_late_answer(self, tx: ClientTransaction, branch: Branch, response: Message, now: float) -> None:
        """A 2xx of a target that was given up for the next one: acknowledged and ended, like any that is unwanted."""
        dialog = self._dialog(branch, response)
        if dialog is None:
            return
        if dialog.acks or dialog.unacked:
            self.ack_again(dialog, response)
            return
        dialog.flow, dialog.unacked = tx.flow, response.cseq.number
        dialog.learn(response, tx.flow, self._core.wire, now)
        self.hang_up_unwanted(dialog, now)

    def on_failure(self, sending: Sending, sent: Branch | Bye, reason: str, now: float) -> None:
        """Time-out (408) or transport error (503), RFC 3261 8.1.3.1."""
        if isinstance(sent, Bye):
            self.keeping.told(sent.dialog, now)
        elif not sent.done:
            final = Final(408 if reason == "timeout" else 503, reason.capitalize(), rule="unreachable")
            if sent.pinned and reason != "timeout":  # that one phone's stream is gone is no 503 of the edge
                final = Final(480, "Temporarily Unavailable", rule="unreachable")
            self.fail(sent, final, now)

    def _provisional(self, branch: Branch, response: Message, now: float) -> None:
        call = branch.call
        if branch.cancelled:
            return
        if branch.timer is not None:
            self.watch(branch, now)
        branch.rang = branch.rang or response.status > 100
        if response.status == 100 or call.pair is not None or call.ended:
            return
        if not call.rang:
            call.rang = True
            self._core.events.tally.ringing.note(now - call.started)
        dialog = self._dialog(branch, response)
        if dialog is None:
            rest = lines_to_pass(response, from_phone=branch.pinned)
            self._respond(call, response.status, response.reason, now, rest=rest)
            return
        if dialog.peer is None:
            self._pair(dialog, now)
        dialog.learn(response, branch.flow, self._core.wire, now)
        self._relay_answer(call, dialog, response, now)

    def _dialog(self, branch: Branch, response: Message) -> Dialog | None:
        """The B leg's dialog of this answer, made when new; None when it makes none (RFC 3261 12.1.2), or no more."""
        tag = response.to.tag
        try:
            route_set = routes(response)[::-1]
        except BadMessage:
            return None
        dialog = branch.dialogs.get(tag) if tag else None
        if tag and dialog is None and len(branch.dialogs) >= MAX_DIALOGS:
            if response.status < 200 or branch.done:
                return None
            self._forget_all(branch)  # early ones: the answer is worth more
        if tag and dialog is None:
            dialog = branch.dialogs[tag] = self._b_dialog(branch, tag, response)
            dialog.route_set = route_set
        if dialog is not None and response.status >= 200 and not dialog.acks and not dialog.unacked:
            dialog.route_set = route_set  # RFC 3261 13.2.2.4: as the 2xx has it
        return dialog

    def _b_dialog(self, branch: Branch, tag: str, response: Message) -> Dialog:
        b = Dialog(branch.call, branch.call_id, branch.local_tag, branch.flow, pinned=branch.pinned)
        b.branch = branch
        b.account = branch.account
        b.remote_tag = tag
        b.local, b.remote = f"{branch.from_value};tag={branch.local_tag}", header_text(response, "to")
        b.local_seq = branch.seq
        b.contact = branch.contact
        b.target = branch.uri
        return b

    def _pair(self, b: Dialog, now: float) -> None:
        """Put the A leg's dialog beside the B leg's; from now on requests find them."""
        a = self._a_dialog(b.call, b.branch.user if b.branch is not None else None, now)
        a.peer, b.peer = b, a
        self.dialogs[a.call_id, a.local_tag] = a
        # Forked early dialogs share our tag; requests from the other end find the right one by its own tag.
        self.dialogs.setdefault((b.call_id, b.local_tag), b)

    def _a_dialog(self, call: Call, user: User | None, now: float) -> Dialog:
        """A dialog with the caller; `user` is who answers a PBX's challenges in it."""
        request, wire = call.request, self._core.wire
        a = Dialog(call, request.call_id, wire.token(), call.tx.source, pinned=call.caller is not None)
        a.remote_tag = request.from_.tag or ""
        a.local, a.remote = f"{header_text(request, 'to')};tag={a.local_tag}", header_text(request, "from")
        a.remote_seq = request.cseq.number
        a.route_set = routes(request)
        if call.connection is not None:
            a.send_to(wire.expect(call.tx.source, call.connection.host, call.connection.tls_verify))
        if call.connection is not None and user is not None:
            a.account = account_of(call.index, user, call.connection)
        domain = call.index.tenant.primary_domain
        asked = Uri.parse(request.uri).user
        name = f"{quote_user(asked)}@" if asked else ""
        a.target = f"sip:{bracketed(call.tx.source.host)}:{call.tx.source.port}"  # where there is no Contact
        a.contact = f"<sip:{name}{wire.hostport(call.tx.source)};local-domain={domain}>"
        a.learn(request, call.tx.source, wire, now)
        call.local_tags.append(a.local_tag)
        return a

    def _ok(self, branch: Branch, response: Message, now: float) -> None:
        call = branch.call
        dialog = self._dialog(branch, response)
        if dialog is None:
            if not branch.done:
                self.fail(branch, Final(502, "Bad Gateway", rule="bad-answer"), now)
            return
        if dialog.acks or dialog.unacked:  # the same 2xx again
            self.ack_again(dialog, response)
            return
        dialog.unacked = response.cseq.number
        dialog.learn(response, branch.flow, self._core.wire, now)
        self._end_branch(branch)
        if call.pair is not None or call.ended or branch.cancelled:
            self.bridging.close(branch.bridge, now)
            self.hang_up_unwanted(dialog, now)
            return
        self._answered(call, dialog, response, now)

    def _answered(self, call: Call, dialog: Dialog, response: Message, now: float) -> None:
        """The first 2xx wins; the other branches are told that the call was completed elsewhere (RFC 3326)."""
        if dialog.peer is None:
            self._pair(dialog, now)
        call.pair = dialog.other
        call.answered_at = now
        self._core.events.tally.answering.note(now - call.started)
        if dialog.branch is not None:
            self.hunting.answered(dialog.branch)
        for branch in call.active:
            self.cancel(branch, now, ELSEWHERE)
        for branch in call.branches:
            self._forget_all(branch, but=dialog)
        if call.forwarding is not None:
            self.forget(call.forwarding)
        self.dialogs[dialog.call_id, dialog.local_tag] = dialog
        data = self._relay_answer(call, dialog, response, now)
        self.await_ack(dialog.other, call.tx, data, now)
        if dialog.branch is not None and dialog.branch.bridge is not None:
            dialog.branch.bridge.settle()
            self.keep_media(call, dialog.branch.bridge)
        self.keeping.changed(call)
        self._core.events.add(now, "call.answered", tenant=call.index.tenant.id, call=call.id)

    def keep_media(self, call: Call, bridge: Bridge) -> None:
        """What a restart needs to go on with the media of a call that was answered."""
        kept = self.bridging.kept(bridge)
        if call.pair is not None and kept != call.media:
            call.media = kept
            self.keeping.began(call)

    def _challenged(self, branch: Branch, response: Message, now: float) -> bool:
        """Answer the PBX's challenge with the user's credentials, or have the phone do it; False when neither can."""
        if branch.cancelled or branch.proof is None:
            return False
        if passes(branch.account):
            self._pass_challenge(branch, response, now)
            return True
        found = branch.proof.headers(response, "INVITE", branch.uri, self._core.wire.token())
        if found is not None:
            self._send_invite(branch, [*found], now)
        return found is not None

    def _pass_challenge(self, branch: Branch, response: Message, now: float) -> None:
        """The phone holds the password. Its INVITE with credentials goes on with this call, under the Call-ID that the
        PBX has challenged (RFC 3261 22.2); when none comes, the call has failed."""
        call, status, challenges = branch.call, response.status, challenges_of(response)
        self._forget_all(branch)
        self._core.events.step(call.id, "challenge", f"{status} of the PBX, for the phone to answer")
        self._respond(call, status, response.reason, now, challenges)
        call.tx.owner = None  # a CANCEL of that INVITE comes too late
        self._core.timers.cancel(branch.timer)
        final = Final(status, response.reason)
        branch.timer = self._core.timers.set(now + PROOF_SECONDS, lambda at: self.fail(branch, final, at))
        self._unproved[_attempt(call.request, call.index)] = branch

    def awaits(self, request: Message, index: TenantIndex) -> bool:
        """Whether an INVITE is one that was challenged, sent once more: a call that has begun already."""
        return _attempt(request, index) in self._unproved

    def resume(self, tx: ServerTransaction, index: TenantIndex, user: User, now: float) -> bool:
        """Whether an INVITE is one that was challenged, with credentials: then its call goes on.

        Raises BadMessage when the request's routes could not be used.
        """
        branch = self._unproved.get(_attempt(tx.request, index))
        call = branch.call if branch is not None else None
        if branch is None or call is None or call.caller is not user or call.request.uri != tx.request.uri:
            return False
        routes(tx.request)
        del self._unproved[_attempt(tx.request, index)]
        call.tx, call.request, tx.owner = tx, tx.request, call
        self._core.layer.respond(tx, 100, build.response(tx.request, 100, received=tx.source[1:3]), now)
        branch.body = call.request.body
        self.watch(branch, now)
        self._offer(branch, now)
        return True

    def _lengthen(self, branch: Branch, response: Message, now: float) -> bool:
        """The session interval was our idea and is too small (RFC 4028 7.4): once more. Of the caller's: 422 passes."""
        request = branch.call.request
        least = least_of(response)
        asked_by_us = not (knows_timers(request) and request.has("session-expires"))
        if branch.cancelled or not asked_by_us or least <= self.sessions.offered(branch.call, request, branch.least):
            return False
        branch.least = least
        branch.proof = self.proof(branch.account)
        self._send_invite(branch, [], now)
        return True

    def _decrypt(self, branch: Branch, now: float) -> bool:
        """A phone over TLS that takes no SRTP is offered plain RTP, once."""
        bridge = branch.bridge
        if branch.cancelled or bridge is None or not self.bridging.plainer(branch, bridge):
            return False
        self._bridge(branch, now)
        return True

    def proof(self, account: PbxAccount | None) -> Proof:
        """For one request to a PBX: what it has answered to challenges."""
        return Proof(account, self._core.cipher)

    # -- when it fails

    def fail(self, branch: Branch, final: Final, now: float) -> None:
        """A branch is over without an answer; what comes then is for `hunting` to say."""
        self._end_branch(branch)
        self.bridging.close(branch.bridge, now)
        self._tell_early_end(branch, final.status, now)
        self._forget_all(branch)
        self.hunting.failed(branch, final, now)

    def _tell_early_end(self, branch: Branch, status: int, now: float) -> None:
        """199 to a caller that takes it: this early dialog is over while others still ring (RFC 6228)."""
        call = branch.call
        if call.pair is not None or call.ended or not call.active or "199" not in call.request.split("supported"):
            return
        for dialog in branch.dialogs.values():
            if dialog.peer is not None:
                headers: list[Header] = [("Contact", dialog.peer.contact), ("Reason", f"SIP;cause={status}")]
                source, tag = call.tx.source[1:3], dialog.peer.local_tag
                data = build.response(call.request, 199, None, tag, headers, b"", source)
                self._core.layer.respond(call.tx, 199, data, now)

    def watch(self, branch: Branch, now: float) -> None:
        """Timer C (RFC 3261 16.6) begins, or begins anew."""
        self._core.timers.cancel(branch.timer)
        branch.timer = self._core.timers.set(
            now + self._core.settings.caller_timeout, lambda at: self.too_long(branch, at)
        )

    def too_long(self, branch: Branch, now: float) -> None:
        """Timer C: no news from the PBX."""
        if not branch.done:
            self.cancel(branch, now)
            self.fail(branch, Final(408, "Request Timeout", rule="timeout"), now)

    def refuse(
        self, call: Call, status: int, reason: str, now: float, headers: Sequence[Header] = (), *, rule: str = ""
    ) -> None:
        """The edge itself ends a call that was not answered; counted and told as an event."""
        call.tx.rule = rule
        self._core.events.add(
            now, "refused", tenant=call.index.tenant.id, rule=rule, call=call.id, code=status, reason=reason,
            method="INVITE", call_id=call.request.call_id[:MAX_TEXT],
            source=f"{call.tx.source.transport}:{call.tx.source.host}:{call.tx.source.port}", uri=call.to_text,
        )  # fmt: skip
        self.finish(call, status, reason, now, headers)

    def finish(
        self, call: Call, status: int, reason: str, now: float, headers: Sequence[Header] = (), body: bytes = b""
    ) -> None:
        """Answer the caller's INVITE with a failure, and end the call."""
        if call.ended:
            return
        self._respond(call, status, reason, now, headers, body)
        self.end(call, status, reason, now)

    # -- cancelling and ending

    def on_cancel(self, call: Call, now: float, reason: bytes = b"") -> None:
        """The caller gave up, and may say why (RFC 3261 9.2, RFC 3326), or its stream ended."""
        if call.pair is not None or call.ended:
            return
        call.by = "caller"
        self.cancel_all(call, now, reason)
        self.finish(call, 487, "Request Terminated", now)

    def on_callee_gone(self, branch: Branch, now: float) -> None:
        """A BYE from what rings, which overtook its answer: that answer is not wanted any more."""
        if not branch.done:
            self.cancel(branch, now)
            self.fail(branch, Final(480, "Temporarily Unavailable"), now)

    def cancel_all(self, call: Call, now: float, reason: bytes = b"") -> None:
        """Cancel what is under way; how that ends is of no interest to the call any more."""
        for branch in call.active:
            self.cancel_branch(branch, now, reason)

    def cancel_branch(self, branch: Branch, now: float, reason: bytes = b"") -> None:
        if not branch.done:
            self.cancel(branch, now, reason)
            self._end_branch(branch)
            self.bridging.close(branch.bridge, now)

    def tell_forwarded(self, call: Call, now: float) -> None:
        """181 to the caller, in an early dialog of its own (RFC 3261 21.1.3, 12.1.1).

        Only to one that says that it follows where its call goes (RFC 7044): others know what to do with it seldom,
        and some stumble. Not to one that wants every provisional answer acknowledged (RFC 3262 3).
        """
        required, supported = ([tag.lower() for tag in call.request.split(name)] for name in ("require", "supported"))
        if "100rel" in required or "histinfo" not in supported:
            return
        if call.forwarding is None:
            call.forwarding = a = self._a_dialog(call, None, now)
            self.dialogs[a.call_id, a.local_tag] = a
        a = call.forwarding
        headers: list[Header] = [call.request.lines("record-route"), ("Contact", a.contact)]
        data = build.response(call.request, 181, None, a.local_tag, headers, b"", call.tx.source[1:3])
        self._core.layer.respond(call.tx, 181, data, now)

    def cancel(self, branch: Branch, now: float, reason: Header = b"") -> None:
        if branch.cancelled:
            return
        branch.cancelled = True
        if branch.sending is not None:  # else it waits for the media relay, and is not sent
            self._core.sender.cancel(branch.sending, [reason], now)

    def _end_branch(self, branch: Branch) -> None:
        branch.done = True
        if passes(branch.account):
            attempt = _attempt(branch.call.request, branch.call.index)
            if self._unproved.get(attempt) is branch:
                del self._unproved[attempt]
        if branch.timer is not None:
            self._core.timers.cancel(branch.timer)
            branch.timer = None

    def hang_up_unwanted(self, dialog: Dialog, now: float) -> None:
        """A 2xx that nobody wants any more is acknowledged and ended (RFC 3261 13.2.2.4)."""
        self.send_ack(dialog, b"", b"")
        self.part(dialog, now)

    def abandon(self, call: Call, now: float) -> None:
        """A fault of ours in a call: it ends, whatever state that left it in."""
        self.hang_up(call, 500, "Server Internal Error", now)

    def end(self, call: Call, code: int, reason: str, now: float) -> None:
        """The call is over: free what it took, and write its record."""
        if call.ended:
            return
        call.ended, call.code, call.reason = True, code, reason
        self.calls.pop(call.id, None)
        self._core.limits.give_back(call.scopes)
        call.scopes = []
        self.sessions.stop(call)
        call.parent = None
        if call.round is not None:
            call.round.stop(self._core.timers)
        for branch in call.branches:
            self._sent.pop(branch.call_id, None)
            self._core.timers.cancel(branch.timer)
            self.bridging.close(branch.bridge, now)
        for dialog in legs_of(call):
            if dialog.pending is not None:
                dialog.pending.give_up(now)
        self.keeping.ended(call)
        self.bury_later(call, now)
        self._core.events.add(
            now, "call.ended", tenant=call.index.tenant.id, connection=_connection_id(call), user=_user_id(call),
            call=call.id, **{"from": call.from_text}, to=call.to_text, direction=call.direction, started=call.started,
            answered=call.answered_at, ended=now, code=code, reason=reason, by=call.by, **rang(call),
        )  # fmt: skip

    def bury_later(self, call: Call, now: float) -> None:
        """For a while its dialogs still answer."""
        settings, until = self._core.settings, now + self._core.settings.zombie_longest
        self._core.timers.set(now + settings.zombie_time, lambda at: self._bury(call, at, until))

    def _bury(self, call: Call, now: float, until: float) -> None:
        """Forget the dialogs, unless a BYE still waits for its turn, or a transfer is still told of (RFC 5057)."""
        legs = legs_of(call)
        told = now < until and any(at > now for dialog in legs for at in dialog.usages.values())
        waits = any(dialog.ok is not None for dialog in legs)
        if not waits:
            self.keeping.forget(call, now)
        if told or waits:
            self._core.timers.set(now + T2, lambda at: self._bury(call, at, until))
            return
        for branch in call.branches:
            self._forget_all(branch)
        if call.forwarding is not None:
            self.forget(call.forwarding)
        _dissolve(call)

    def _forget_all(self, branch: Branch, but: Dialog | None = None) -> None:
        """Forget a branch's dialogs and those of the A leg beside them."""
        for tag, dialog in list(branch.dialogs.items()):
            if dialog is not but:
                del branch.dialogs[tag]
                self.forget(dialog)
                if dialog.peer is not None:
                    self.forget(dialog.peer)

    def forget(self, dialog: Dialog) -> None:
        key = dialog.call_id, dialog.local_tag
        if self.dialogs.get(key) is dialog:
            del self.dialogs[key]
        self.stop_ok(dialog)

    # -- what goes out on a leg

    def _respond(
        self,
        call: Call,
        status: int,
        reason: str,
        now: float,
        headers: Sequence[Header] = (),
        body: bytes = b"",
        rest: bytes = b"",
    ) -> None:
        """An answer to the caller's INVITE that makes no dialog with a phone or PBX behind it."""
        tag = call.local_tags[0] if call.local_tags else self._core.wire.token()
        if not call.local_tags:
            call.local_tags.append(tag)
        data = build.response(call.request, status, reason, tag, [*headers, rest], body, call.tx.source[1:3])
        self._core.layer.respond(call.tx, status, data, now)

    def _relay_answer(self, call: Call, b: Dialog, response: Message, now: float) -> bytes:
        """Pass a B leg's 1xx or 2xx to the caller in the A leg's own dialog."""
        a = b.other
        headers: list[Header] = [call.request.lines("record-route"), ("Contact", a.contact)]
        if response.status < 200 and is_reliable(response) and not offers_100rel(call.request):
            headers.append(unreliable_lines(response, from_phone=b.pinned))
            self._prack(b, response, now)
        else:
            headers.append(lines_to_pass(response, from_phone=b.pinned))
        if response.status >= 200:
            least = b.branch.least if b.branch is not None else 0
            headers += self.sessions.answered(call, call.request, response, now, least)
        data = build.response(
            call.request, response.status, response.reason, a.local_tag, headers, response.body, call.tx.source[1:3]
        )
        self._core.layer.respond(call.tx, response.status, data, now)
        return data

    def _prack(self, b: Dialog, response: Message, now: float) -> None:
        """Acknowledge a provisional answer that was made reliable though nobody asked for it: else it never ends."""
        rseq = response.get("rseq") or ""
        if rseq.isascii() and rseq.isdigit() and len(rseq) < 11 and int(rseq) != b.pracked:
            b.pracked = int(rseq)
            wire, cseq = self._core.wire, response.cseq
            branch, headers = wire.branch(), [("RAck", f"{rseq} {cseq.number} {cseq.method}")]
            data = b.request(wire, "PRACK", branch, b.next_seq(), [*headers])
            self._core.layer.request(data, "PRACK", branch, b.flow, None, now)

    def send_ack(self, dialog: Dialog, rest: bytes, body: bytes) -> None:
        """ACK the 2xx that waits for it (RFC 3261 13.2.2.4): outside any transaction, with a branch of its own."""
        wire, seq = self._core.wire, dialog.unacked
        if seq:
            data = dialog.request(wire, "ACK", wire.branch(), seq, [], body, rest)
            dialog.keep_ack(seq, data)
            if body:
                self.keeping.changed(dialog.call)
            wire.send(data, dialog.flow)

    def part(self, dialog: Dialog, now: float, rest: bytes = b"", body: bytes = b"") -> None:
        """End a leg: what is unacknowledged is acknowledged, and the BYE waits for the ACK of our 2xx.

        RFC 3261 15: before that, the other end may not know yet that there is a dialog.
        """
        dialog.telling = True
        self.reach(dialog, now)
        self.send_ack(dialog, b"", b"")
        if dialog.ok is not None:
            dialog.parting = rest, body
            if dialog.resumed:  # its ACK may have come before the restart
                dialog.ok.deadline = min(dialog.ok.deadline, now + DOUBT_SECONDS)
        else:
            self._send_bye(Bye(dialog, rest, body, self.proof(dialog.account)), [], now)

    def _send_bye(self, bye: Bye, credentials: Sequence[Header], now: float) -> None:
        wire, dialog = self._core.wire, bye.dialog
        seq = self.next_seq(dialog)

        def over(flow: Flow, branch: str) -> bytes:
            return dialog.request(wire, "BYE", branch, seq, [*credentials], bye.body, bye.rest, flow)

        flows = dialog.flows
        self._core.sender.request("BYE", flows, over, (self, bye), now, pinned=dialog.pinned)

    def _bye_again(self, bye: Bye, response: Message, now: float) -> bool:
        """A PBX wants to know who hangs up; whether we could say."""
        found = bye.proof.headers(response, "BYE", bye.dialog.request_uri, self._core.wire.token())
        if found is not None:
            self._send_bye(bye, found, now)
        return found is not None

    def await_ack(self, dialog: Dialog, tx: ServerTransaction, data: bytes, now: float) -> None:
        """Send our 2xx again until its ACK comes (RFC 3261 13.3.1.4)."""
        invite = tx.request
        self.send_until_acked(
            dialog, PendingOk(data, tx.flow, invite.cseq.number, T1, now + OK_LIFE, first=invite.to.tag is None), now
        )

    def send_until_acked(self, dialog: Dialog, ok: PendingOk, now: float) -> None:
        """It was sent just now."""
        dialog.ok = ok
        ok.timer = self._core.timers.set(now + T1, lambda at: self._again(dialog, ok, at))

    def _again(self, dialog: Dialog, ok: PendingOk, now: float) -> None:
        if dialog.ok is not ok:
            return
        if now >= ok.deadline:
            self.acknowledged(dialog, now)
            self.hang_up(dialog.call, 408, "No ACK", now)
            return
        if ok.flow.reliable:  # the stream may have been replaced
            self.reach(dialog, now)
        self._core.wire.send(ok.data, dialog.flow if ok.flow.reliable else ok.flow)
        ok.interval = min(2 * ok.interval, T2)
        ok.timer = self._core.timers.set(min(now + ok.interval, ok.deadline), lambda at: self._again(dialog, ok, at))

    def acknowledged(self, dialog: Dialog, now: float) -> None:
        """Our 2xx is sent no more; a BYE that waited for that goes now."""
        parting = dialog.parting
        if dialog.ok is not None:
            self.keeping.acknowledged(dialog, dialog.ok.seq, now)
        self.stop_ok(dialog)
        if parting is not None:
            self.part(dialog, now, *parting)

    def no_bye(self, dialog: Dialog, now: float) -> None:
        """The other end hung up. It knows the dialog, so it has our first 2xx; an answer to a re-INVITE may have been
        lost, and is sent until its ACK comes (RFC 3261 13.3.1.4, 15.1.2)."""
        if dialog.parting is not None:
            dialog.parting = None
            self.keeping.told(dialog, now)
        if dialog.ok is not None and dialog.ok.first:
            self.stop_ok(dialog)

    def stop_ok(self, dialog: Dialog) -> None:
        if dialog.ok is not None:
            self._core.timers.cancel(dialog.ok.timer)
        dialog.ok = dialog.parting = None

    def answer_again(self, call: Call, now: float) -> None:
        """The caller's final answer, of a call that ended just before a restart: it may never have been sent."""
        self._respond(call, call.code, call.reason, now)

    def hang_up(self, call: Call, code: int, reason: str, now: float) -> None:
        """The edge ends a call: BYE on both legs, or a failure when it was not answered."""
        if call.ended:
            return
        why = f"Reason: SIP;cause={code};text={quote(legible(reason))}\r\n".encode()  # RFC 3326
        if call.pair is None:
            self.cancel_all(call, now, why)
            self.finish(call, code, reason, now)
            return
        for dialog in legs_of(call):
            self.part(dialog, now, why)
        self.end(call, code, reason, now)

    def named(self, name: str) -> Call | None:
        """A call in progress by its id, or by the Call-ID of a leg."""
        if name in self.calls:
            return self.calls[name]
        for call in self.calls.values():
            if name == call.request.call_id or any(name == branch.call_id for branch in call.branches):
                return call
        return None

    def describe(self, tenant: str | None) -> Iterator[dict[str, Any]]:
        """Calls in progress, for people: docs/architecture.md, `calls`."""
        for call in self.calls.values():
            if tenant in (None, call.index.tenant.id):
                yield {
                    "id": call.id,
                    "tenant": call.index.tenant.id,
                    "from": call.from_text,
                    "to": call.to_text,
                    "state": "answered" if call.pair else "ringing",
                    "since": call.answered_at or call.started,
                    "direction": call.direction,
                }


def _attempt(request: Message, index: TenantIndex) -> tuple[str, ...]:
    """What stays when an INVITE is sent once more, with credentials (RFC 3261 8.1.3.5)."""
    return index.tenant.id, request.call_id, request.from_.tag or ""


def _dissolve(call: Call) -> None:
    """Part what refers to each other in a call that is forgotten, so that its memory is free now, and not when the
    garbage collector next looks at everything, which with many calls is seldom."""
    for leg in (*legs_of(call), *([call.forwarding] if call.forwarding is not None else [])):
        leg.peer = None
    for branch in call.branches:
        if branch.sending is not None:
            branch.sending.tx = None
        branch.sending = branch.round = None
    call.tx.owner = None
    call.branches = []
    call.pair = call.forwarding = call.round = None


def _user_id(call: Call) -> str:
    user = call.callee or call.caller
    return user.id if user else ""


def _connection_id(call: Call) -> str:
    """Of the PBX that called, else of the one that was called last."""
    out = [branch.connection for branch in call.branches if branch.connection is not None]
    connection = call.connection or (out[-1] if out else None)
    return connection.id if connection is not None else ""


def _plain_uri(text: str) -> str:
    """The URI without parameters, for records."""
    return text.partition(";")[0][:MAX_TEXT]


def _without_media(failure: Failure) -> Final:
    return Final(failure.status, failure.reason, failure.headers, rule=failure.rule)


def _final(response: Message, *, from_phone: bool) -> Final:
    """What of a failure passes to the caller. A challenge does not: its credentials are not the caller's."""
    status, reason = response.status, response.reason
    if status in (401, 407):
        return Final(403, "Refused By The PBX")
    if 300 <= status < 400:
        return Final(480, "Temporarily Unavailable", redirect=_redirect(response))
    return Final(status, reason, lines_to_pass(response, from_phone=from_phone), response.body)


def _redirect(response: Message) -> str:
    """The Contact of a 3xx with the highest q (RFC 3261 8.1.3.4)."""
    try:
        contacts = response.contacts
    except BadMessage:
        return ""
    preferred = max(contacts, key=preference, default=None)
    return preferred.uri_text if preferred is not None else ""
