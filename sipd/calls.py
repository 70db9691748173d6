"""Calls: one A leg, one or more B legs (RFC 7092 signalling-only back-to-back user agent).

An INVITE that was let in becomes a `Call`. It rings a user's phones (a `Branch` each) or goes out through
a connection (one `Branch`); the first 2xx wins, the others are cancelled, and the pair of dialogs is
joined. What happens inside the dialogs is in `indialog`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sipd.auth import PbxAccount, Proof, account_of, at_pbx
from sipd.dialogs import Dialog, PendingOk, header_text, lines_to_pass, routes, target_of
from sipd.events import Events
from sipd.flow import Flow
from sipd.limits import CallLimits, LimitReached, Scope
from sipd.message import build
from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.errors import BadMessage, LocalError
from sipd.message.message import Message
from sipd.message.uri import Uri, quote_user
from sipd.naming import DialogName, renamed
from sipd.registrar import Binding, Registrar
from sipd.routing.decision import Decision, Dialled, decide_dialled, decide_outbound
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import Connection, Limits, User
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.transaction.layer import T1, T2, ClientTransaction, Layer, ServerTransaction
from sipd.upstream import connection_hop, contact_of
from sipd.wire import Wire, bracketed

ELSEWHERE = ("Reason", 'SIP;cause=200;text="Call completed elsewhere"')
"""On the CANCEL to phones that rang in vain (RFC 3326)."""
OK_LIFE = 64 * T1
"""How long a 2xx waits for its ACK (RFC 3261 13.3.1.4)."""
MAX_TEXT = 200
"""Characters of a URI in a record."""
MAX_DIALOGS = 20
"""Dialogs that the answers to one INVITE may make (RFC 3261 12.1.2 names no bound). Further 18x pass without one,
and further 2xx, once the call is answered, are left to give up."""
BUSY = (486, 600)
NOT_THERE = (404, 408, 410, 430, 480, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Core:
    """What the parts of the core share."""

    settings: Settings
    wire: Wire
    layer: Layer
    timers: Timers
    events: Events
    limits: CallLimits
    registrar: Registrar
    cipher: Cipher
    table: Callable[[], Compiled]
    """The table in force now."""


class Call:
    """One call, from the INVITE that began it to the end of both legs."""

    __slots__ = (
        "answered_at", "branches", "by", "callee", "caller", "connection", "direction", "ended", "finals", "from_text",
        "hops", "id", "index", "local_tags", "no_answer", "pair", "request", "ring_timer", "scopes", "started",
        "to_text", "tx",
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
        """The user whose phones ring now."""
        self.scopes: list[Scope] = []
        self.branches: list[Branch] = []
        self.finals: list[Final] = []
        """Answers of the branches of this round that failed."""
        self.pair: Dialog | None = None
        """The A leg's dialog, once answered."""
        self.local_tags: list[str] = []
        """Our tags towards the caller, one per early dialog."""
        self.hops = 0
        self.no_answer = False
        self.ring_timer: Timer | None = None
        self.started = now
        self.answered_at: float | None = None
        self.ended = False
        self.by = "edge"
        self.from_text = _plain_uri(self.request.from_.uri_text)
        self.to_text = _plain_uri(self.request.uri)

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
    """User part of the first Contact of a 3xx."""
    rule: str = ""
    """Why the edge says so, when it is not the other end's word."""


class Branch:
    """One INVITE that we sent for a call, and the dialogs that its answers made."""

    __slots__ = (
        "account", "call", "call_id", "cancelled", "contact", "dialogs", "done", "flow", "from_value", "headers",
        "local_tag", "max_forwards", "pinned", "proof", "rest", "seq", "timer", "to_value", "tx", "uri",
    )  # fmt: skip

    def __init__(self, call: Call, uri: str, flow: Flow, from_value: str, to_value: str, contact: str) -> None:
        self.call = call
        self.uri = uri
        self.flow = flow
        self.from_value = from_value
        """Without tag."""
        self.to_value = to_value
        self.contact = contact
        self.pinned = False
        self.headers: list[Header] = []
        self.rest = b""
        self.max_forwards = 70
        self.account: PbxAccount | None = None
        """Whose credentials answer a challenge."""
        self.proof: Proof | None = None
        self.call_id = ""
        self.local_tag = ""
        self.seq = 0
        self.tx: ClientTransaction | None = None
        self.dialogs: dict[str, Dialog] = {}
        self.cancelled = False
        self.done = False
        self.timer: Timer | None = None


class Bye:
    """A BYE that we sent."""

    __slots__ = ("body", "dialog", "proof", "rest")

    def __init__(self, dialog: Dialog, rest: bytes, body: bytes, proof: Proof) -> None:
        self.dialog = dialog
        self.rest = rest
        self.body = body
        self.proof = proof


class Calls:
    """All calls of a node, and the dialogs by which in-dialog requests find them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.calls: dict[str, Call] = {}
        self.dialogs: dict[tuple[str, str], Dialog] = {}
        """By our side of it: Call-ID and local tag (RFC 3261 12)."""

    def find(self, message: Message) -> Dialog | None:
        """The dialog of a request that came to us: our tag is in its To, the other end's in its From.

        Early forks of one INVITE share our tag, and differ in the other end's.
        """
        dialog = self.dialogs.get((message.call_id, message.to.tag or ""))
        theirs = message.from_.tag or ""
        if dialog is None or dialog.remote_tag == theirs:
            return dialog
        return dialog.branch.dialogs.get(theirs) if dialog.branch is not None else None

    def renamed(self, request: Message, index: TenantIndex) -> list[Header]:
        """Headers of a request that name a call of the tenant, by its name on the other leg."""

        def rename(name: DialogName) -> DialogName | None:
            dialog = self.dialogs.get((name.call_id, name.asked))
            if dialog is None or dialog.peer is None or dialog.remote_tag != name.asking:
                return None
            if dialog.call.index.tenant.id != index.tenant.id:
                return None
            return DialogName(dialog.peer.call_id, dialog.peer.remote_tag, dialog.peer.local_tag)

        return renamed(request, rename)

    # -- beginning

    def from_pbx(self, tx: ServerTransaction, decision: Decision, now: float) -> None:
        """A call that the decision order let in."""
        if decision.tenant is None:
            raise LocalError("accepted without a tenant")
        call = self._begin(tx, decision.tenant, "in", now)
        call.connection = decision.connection
        limit = self._take(call, decision.connection, decision.user, now)
        if limit is not None:
            self._limit(call, limit, decision.user, now)
        elif decision.user is not None:
            self.ring(call, decision.user, now)
        else:
            self.dial(call, None, decision.forward, now)

    def from_phone(self, tx: ServerTransaction, index: TenantIndex, user: User, uri: Uri, now: float) -> None:
        """A call that an authenticated user makes."""
        call = self._begin(tx, index, "out", now)
        call.caller = user
        own = uri.host in index.tenant.domains or self._core.table().names_no_domain(uri.host)
        at_pbx = any(uri.host in (c.registrar_domain, c.host) for c in index.connections.values())
        if own or at_pbx:
            self._dial_as(call, user, decide_dialled(index, uri.user or ""), now)
        else:  # another domain, also another tenant's: like the public, through the PBX
            self._dial_as(call, user, decide_outbound(index, uri.user or ""), now, foreign=uri)

    def _begin(self, tx: ServerTransaction, index: TenantIndex, direction: str, now: float) -> Call:
        """Raises BadMessage when the request's routes could not be used (RFC 3261 12.1.1)."""
        routes(tx.request)
        call = Call(self._core.wire.token(12), tx, index, direction, now)
        tx.owner = call
        self.calls[call.id] = call
        self._core.layer.respond(tx, 100, build.response(tx.request, 100, received=tx.source[1:3]), now)
        return call

    def _dial_as(self, call: Call, user: User, dialled: Dialled, now: float, foreign: Uri | None = None) -> None:
        """What a user dialled, by the connection's rule for calls inside the tenant."""
        connection = dialled.connection
        number = dialled.number
        callee = dialled.user
        if callee is not None:
            call.direction = "internal"
            connection = call.index.connections.get(call.index.tenant.default_connection)
            number = callee.extension
            if connection is None or self._directly(connection, callee, now):
                connection = None
        limit = self._take(call, connection, user, now)
        if limit is not None:
            self._limit(call, limit, None, now)
        elif connection is not None:
            self._call_out(call, user, connection, number, now, foreign)
        elif callee is not None:
            self.ring(call, callee, now)
        elif dialled.forward:
            self.dial(call, user, dialled.forward, now)
        else:
            self._refuse(call, 404, "Not Found", now, rule=dialled.rule)

    def _directly(self, connection: Connection, callee: User, now: float) -> bool:
        if connection.internal_calls == "always_direct":
            return True
        here = bool(self._core.registrar.bindings(callee.id, now))
        return connection.internal_calls == "direct_when_possible" and here

    def _take(self, call: Call, connection: Connection | None, user: User | None, now: float) -> LimitReached | None:
        """Count the call against every limit that applies, or none."""
        tenant = call.index.tenant
        scopes: list[tuple[Scope, Limits]] = [
            (("installation", ""), self._core.table().installation.limits),
            (("tenant", tenant.id), tenant.limits),
        ]
        if connection is not None:
            scopes.append((("connection", connection.id), connection.limits))
        if user is not None:
            scopes.append((("user", user.id), user.limits))
        limit = self._core.limits.take(scopes, now)
        if limit is None:
            call.scopes = [scope for scope, _ in scopes]
        source = call.tx.source
        self._core.events.add(
            now, "call.started", tenant=tenant.id, connection=connection.id if connection else "",
            user=user.id if user else "", call=call.id, **{"from": call.from_text}, to=call.to_text,
            direction=call.direction, source=f"{source.transport}:{source.host}:{source.port}",
        )  # fmt: skip
        return limit

    def _limit(self, call: Call, limit: LimitReached, user: User | None, now: float) -> None:
        if limit.status == 486 and user is not None and user.forward_busy:
            self._forward(call, user, user.forward_busy, now)
            return
        headers = [("Retry-After", str(limit.retry_after))] if limit.retry_after else []
        reason = build.REASONS[limit.status]
        self._refuse(call, limit.status, reason, now, headers, rule=f"limit-{limit.rule}")

    # -- where it goes

    def ring(self, call: Call, user: User, now: float) -> None:
        """Ring all phones of a user, or follow the user's rule."""
        if user.forward_always:
            self._forward(call, user, user.forward_always, now)
            return
        bindings = self._core.registrar.bindings(user.id, now)
        if not bindings:
            if user.forward_unreachable:
                self._forward(call, user, user.forward_unreachable, now)
            else:
                self._refuse(call, 480, "Temporarily Unavailable", now, rule="no-binding")
            return
        call.callee = user
        call.ring_timer = self._core.timers.set(now + user.ring_seconds, lambda at: self._rang_out(call, at))
        for binding in bindings:
            self._ring_phone(call, user, binding, now)

    def dial(self, call: Call, user: User | None, target: str, now: float) -> None:
        """Follow a forward: a user of the tenant rings here, anything else goes out with the user's account."""
        call.hops += 1
        if call.hops > self._core.settings.max_forward_hops:
            self._refuse(call, 480, "Too Many Forwards", now, rule="forward-loop")
            return
        dialled = decide_dialled(call.index, target)
        if dialled.user is not None:
            self.ring(call, dialled.user, now)
        elif dialled.forward:
            self.dial(call, user, dialled.forward, now)
        elif dialled.connection is not None:
            self._call_out(call, user, dialled.connection, dialled.number, now)
        else:
            self._refuse(call, 480, "Temporarily Unavailable", now, rule="forward-nowhere")

    def _forward(self, call: Call, user: User, target: str, now: float) -> None:
        """Another round: what became of the one before does not count any more."""
        call.callee = None
        call.finals = []
        call.no_answer = False
        if call.ring_timer is not None:
            self._core.timers.cancel(call.ring_timer)
        self.dial(call, user, target, now)

    def _ring_phone(self, call: Call, user: User, binding: Binding, now: float) -> None:
        wire = self._core.wire
        to_value = f"<{Uri.build(user.extension, call.index.tenant.primary_domain)}>"
        contact = f"<sip:{wire.hostport(binding.flow)}>"
        from_value = _without_tag(call.request)
        uri = target_of(binding.contact)
        branch = Branch(call, uri, binding.flow, from_value, to_value, contact)
        branch.pinned = True
        branch.rest = lines_to_pass(call.request, from_phone=call.caller is not None)
        self._invite(branch, now)

    def _call_out(
        self,
        call: Call,
        user: User | None,
        connection: Connection,
        number: str,
        now: float,
        foreign: Uri | None = None,
    ) -> None:
        """Through a connection, as the user that the PBX knows (wire.md: From phones)."""
        account = account_of(call.index, user, connection) if user else None
        if account is None and connection.strategy == "on_behalf":
            self._refuse(call, 403, "No Account At The PBX", now, rule="no-account")
            return
        hop, route = connection_hop(connection)

        def ready(flow: Flow | None, then: float) -> None:
            if call.ended:
                return
            if flow is None:
                self._fail(call, None, Final(503, "PBX Unreachable", rule="unreachable"), then)
                return
            branch = self._outbound_branch(call, user, account, connection, number, foreign, flow)
            if route:
                branch.headers.append(("Route", route))
            branch.timer = self._core.timers.set(
                then + self._core.settings.caller_timeout, lambda at: self._too_long(branch, at)
            )
            self._invite(branch, then)

        self._core.wire.when_ready(*hop, ready, now)

    def _outbound_branch(
        self,
        call: Call,
        user: User | None,
        account: PbxAccount | None,
        connection: Connection,
        number: str,
        foreign: Uri | None,
        flow: Flow,
    ) -> Branch:
        target = at_pbx(connection, number)
        if foreign is not None:
            target = str(Uri.build(number, foreign.host, foreign.port))
        identity = account.username if account else (user.extension if user else "anonymous")
        display = Address(user.name if user else "", Uri.parse(at_pbx(connection, identity)), {})
        extension = user.extension if user else "anonymous"
        contact = contact_of(
            extension, call.index.tenant.primary_domain, connection.multi_tenant, self._core.wire, flow
        )
        branch = Branch(call, target, flow, str(display), f"<{target}>", contact)
        branch.account = account
        branch.rest = lines_to_pass(call.request, from_phone=True)
        if call.caller is None and user is not None:  # a call from the PBX that a user forwards (RFC 5806)
            branch.headers.append(("Diversion", f"<{Uri.build(user.extension, call.index.tenant.primary_domain)}>"))
        return branch

    def _invite(self, branch: Branch, now: float) -> None:
        call, wire = branch.call, self._core.wire
        hops = call.request.max_forwards
        branch.max_forwards = 70 if hops is None else max(0, hops - 1)
        branch.call_id = wire.token(16)
        branch.local_tag = wire.token()
        branch.proof = self.proof(branch.account)
        branch.headers += self.renamed(call.request, call.index)
        call.branches.append(branch)
        self._send_invite(branch, [], now)

    def _send_invite(self, branch: Branch, credentials: list[Header], now: float) -> None:
        wire = self._core.wire
        branch.seq += 1
        via_branch = wire.branch()
        data = build.request(
            "INVITE",
            branch.uri,
            [
                ("Via", wire.via(branch.flow, via_branch)),
                ("Max-Forwards", str(branch.max_forwards)),
                ("From", f"{branch.from_value};tag={branch.local_tag}"),
                ("To", branch.to_value),
                ("Call-ID", branch.call_id),
                ("CSeq", f"{branch.seq} INVITE"),
                ("Contact", branch.contact),
                *branch.headers,
                *credentials,
            ],
            branch.call.request.body,
            branch.rest,
        )
        branch.tx = self._core.layer.request(data, "INVITE", via_branch, branch.flow, (self, branch), now)

    # -- answers from the B legs

    def on_response(self, tx: ClientTransaction, sent: Branch | Bye, response: Message, now: float) -> None:
        if isinstance(sent, Bye):
            if response.status in (401, 407):
                self._bye_again(sent, response, now)
            return
        branch, status = sent, response.status
        if status < 200:
            self._provisional(branch, response, now)
        elif status < 300:
            self._ok(branch, response, now)
        elif not branch.done:
            if status in (401, 407) and self._authenticate(branch, response, now):
                return
            self._fail(branch.call, branch, _final(response, from_phone=branch.pinned), now)

    def on_stray_response(self, response: Message, now: float) -> None:
        """A 2xx after its transaction is gone: acknowledged again, so that the other end stops sending it."""
        if response.method != "INVITE" or not 200 <= response.status < 300:
            return
        dialog = self.dialogs.get((response.call_id, response.from_.tag or ""))
        if dialog is not None and dialog.remote_tag == response.to.tag:
            self.ack_again(dialog, response)

    def ack_again(self, dialog: Dialog, response: Message) -> None:
        """The same 2xx again: the same ACK again, once there is one."""
        data = dialog.acks.get(response.cseq.number)
        if data is not None:
            self._core.wire.send(data, dialog.flow)

    def on_failure(self, tx: ClientTransaction, sent: Branch | Bye, reason: str, now: float) -> None:
        """Time-out (408) or transport error (503), RFC 3261 8.1.3.1."""
        if isinstance(sent, Branch) and not sent.done:
            final = Final(408 if reason == "timeout" else 503, reason.capitalize(), rule="unreachable")
            self._fail(sent.call, sent, final, now)

    def _provisional(self, branch: Branch, response: Message, now: float) -> None:
        call = branch.call
        if branch.cancelled:
            return
        if branch.timer is not None:
            self._core.timers.cancel(branch.timer)
            again = now + self._core.settings.caller_timeout
            branch.timer = self._core.timers.set(again, lambda at: self._too_long(branch, at))
        if response.status == 100 or call.pair is not None or call.ended:
            return
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
        a = self._a_dialog(b.call, now)
        a.peer, b.peer = b, a
        self.dialogs[a.call_id, a.local_tag] = a
        # Forked early dialogs share our tag; requests from the other end find the right one by its own tag.
        self.dialogs.setdefault((b.call_id, b.local_tag), b)

    def _a_dialog(self, call: Call, now: float) -> Dialog:
        request, wire = call.request, self._core.wire
        a = Dialog(call, request.call_id, wire.token(), call.tx.source, pinned=call.caller is not None)
        a.remote_tag = request.from_.tag or ""
        a.local, a.remote = f"{header_text(request, 'to')};tag={a.local_tag}", header_text(request, "from")
        a.remote_seq = request.cseq.number
        a.route_set = routes(request)
        if call.connection is not None and call.callee is not None:
            a.account = account_of(call.index, call.callee, call.connection)
        domain = call.index.tenant.primary_domain
        user = Uri.parse(request.uri).user
        name = f"{quote_user(user)}@" if user else ""
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
                self._fail(call, branch, Final(502, "Bad Gateway", rule="bad-answer"), now)
            return
        if dialog.acks or dialog.unacked:  # the same 2xx again
            self.ack_again(dialog, response)
            return
        dialog.unacked = response.cseq.number
        dialog.learn(response, branch.flow, self._core.wire, now)
        self._end_branch(branch)
        if call.pair is not None or call.ended or branch.cancelled:
            self.hang_up_unwanted(dialog, now)
            return
        self._answered(call, dialog, response, now)

    def _answered(self, call: Call, dialog: Dialog, response: Message, now: float) -> None:
        """The first 2xx wins; the other branches are told that the call was completed elsewhere (RFC 3326)."""
        if dialog.peer is None:
            self._pair(dialog, now)
        call.pair = dialog.other
        call.answered_at = now
        if call.ring_timer is not None:
            self._core.timers.cancel(call.ring_timer)
        for branch in call.active:
            self._cancel(branch, now, ELSEWHERE)
        for branch in call.branches:
            self._forget_all(branch, but=dialog)
        self.dialogs[dialog.call_id, dialog.local_tag] = dialog
        data = self._relay_answer(call, dialog, response, now)
        self.await_ack(dialog.other, call.tx, data, now)
        self._core.events.add(now, "call.answered", tenant=call.index.tenant.id, call=call.id)

    def _authenticate(self, branch: Branch, response: Message, now: float) -> bool:
        """Answer the PBX's challenge with the user's credentials; False when we cannot."""
        if branch.cancelled or branch.proof is None:
            return False
        found = branch.proof.headers(response, "INVITE", branch.uri, self._core.wire.token())
        if found is not None:
            self._send_invite(branch, [*found], now)
        return found is not None

    def proof(self, account: PbxAccount | None) -> Proof:
        """For one request to a PBX: what it has answered to challenges."""
        return Proof(account, self._core.cipher)

    # -- when it fails

    def _fail(self, call: Call, branch: Branch | None, final: Final, now: float) -> None:
        """One branch is over without an answer; the last one settles the call."""
        if branch is not None:
            self._end_branch(branch)
            self._forget_all(branch)
        call.finals.append(final)
        if final.status >= 600 and call.pair is None:  # RFC 3261 16.7 step 5: for all phones of the user
            self._cancel_all(call, now)
        if not call.active and call.pair is None and not call.ended:
            self._settle(call, now)

    def _settle(self, call: Call, now: float) -> None:
        """All branches failed: the user's rule, else the best answer (RFC 3261 16.7 step 6)."""
        final = min(call.finals, key=_rank)
        user = call.callee
        if user is not None:
            target = self._forward_after(user, final, no_answer=call.no_answer)
            if target:
                self._forward(call, user, target, now)
                return
        if call.no_answer:
            self._refuse(call, 480, "No Answer", now, rule="no-answer")
        elif final.rule:
            self._refuse(call, final.status, final.reason, now, rule=final.rule)
        else:
            call.by = "callee"
            self._finish(call, final.status, final.reason, now, [final.headers], final.body)

    def _forward_after(self, user: User, final: Final, *, no_answer: bool) -> str:
        if no_answer:
            return user.forward_no_answer
        if final.redirect:
            return final.redirect
        if final.status in BUSY:
            return user.forward_busy
        return user.forward_unreachable if final.status in NOT_THERE else ""

    def _rang_out(self, call: Call, now: float) -> None:
        """Nobody answered in time: the phones stop ringing, and the user's rule comes."""
        if call.pair is not None or call.ended:
            return
        call.no_answer = True
        self._cancel_all(call, now)
        call.finals.append(Final(480, "No Answer"))
        self._settle(call, now)

    def _too_long(self, branch: Branch, now: float) -> None:
        """Timer C: no news from the PBX."""
        if not branch.done:
            self._cancel(branch, now)
            self._fail(branch.call, branch, Final(408, "Request Timeout", rule="timeout"), now)

    def _refuse(
        self, call: Call, status: int, reason: str, now: float, headers: Sequence[Header] = (), *, rule: str = ""
    ) -> None:
        """The edge itself ends a call that was not answered; counted and told as an event."""
        self._core.events.add(
            now, "refused", tenant=call.index.tenant.id, rule=rule, code=status, reason=reason, method="INVITE",
            source=f"{call.tx.source.transport}:{call.tx.source.host}:{call.tx.source.port}", uri=call.to_text,
        )  # fmt: skip
        self._finish(call, status, reason, now, headers)

    def _finish(
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
        self._cancel_all(call, now, reason)
        self._finish(call, 487, "Request Terminated", now)

    def on_callee_gone(self, branch: Branch, now: float) -> None:
        """A BYE from what rings, which overtook its answer: that answer is not wanted any more."""
        if not branch.done:
            self._cancel(branch, now)
            self._fail(branch.call, branch, Final(480, "Temporarily Unavailable"), now)

    def _cancel_all(self, call: Call, now: float, reason: bytes = b"") -> None:
        """Cancel what is under way; how that ends is of no interest to the call any more."""
        for branch in call.active:
            self._cancel(branch, now, reason)
            self._end_branch(branch)

    def _cancel(self, branch: Branch, now: float, reason: Header = b"") -> None:
        if branch.cancelled or branch.tx is None:
            return
        branch.cancelled = True
        self._core.layer.cancel(branch.tx, [reason], now)

    def _end_branch(self, branch: Branch) -> None:
        branch.done = True
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
        call.ended = True
        self.calls.pop(call.id, None)
        self._core.limits.give_back(call.scopes)
        for timer in (call.ring_timer, *(branch.timer for branch in call.branches)):
            if timer is not None:
                self._core.timers.cancel(timer)
        for dialog in _legs(call):
            if dialog.pending is not None:
                dialog.pending.give_up(now)
        self._core.timers.set(now + self._core.settings.zombie_time, lambda at: self._bury(call, at))
        self._core.events.add(
            now, "call.ended", tenant=call.index.tenant.id, user=_user_id(call), call=call.id,
            **{"from": call.from_text}, to=call.to_text, direction=call.direction, started=call.started,
            answered=call.answered_at, ended=now, code=code, reason=reason, by=call.by,
        )  # fmt: skip

    def _bury(self, call: Call, now: float) -> None:
        """Forget the dialogs, unless a BYE still waits for its turn."""
        if any(dialog.ok is not None for dialog in _legs(call)):
            self._core.timers.set(now + T2, lambda at: self._bury(call, at))
            return
        for branch in call.branches:
            self._forget_all(branch)

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
        headers.append(lines_to_pass(response, from_phone=b.pinned))
        data = build.response(
            call.request, response.status, response.reason, a.local_tag, headers, response.body, call.tx.source[1:3]
        )
        self._core.layer.respond(call.tx, response.status, data, now)
        return data

    def send_ack(self, dialog: Dialog, rest: bytes, body: bytes) -> None:
        """ACK the 2xx that waits for it (RFC 3261 13.2.2.4): outside any transaction, with a branch of its own."""
        wire, seq = self._core.wire, dialog.unacked
        if seq:
            data = dialog.request(wire, "ACK", wire.branch(), seq, [], body, rest)
            dialog.keep_ack(seq, data)
            wire.send(data, dialog.flow)

    def part(self, dialog: Dialog, now: float, rest: bytes = b"", body: bytes = b"") -> None:
        """End a leg: what is unacknowledged is acknowledged, and the BYE waits for the ACK of our 2xx.

        RFC 3261 15: before that, the other end may not know yet that there is a dialog.
        """
        self.send_ack(dialog, b"", b"")
        if dialog.ok is not None:
            dialog.parting = rest, body
        else:
            self._send_bye(Bye(dialog, rest, body, self.proof(dialog.account)), [], now)

    def _send_bye(self, bye: Bye, credentials: Sequence[Header], now: float) -> None:
        wire, dialog = self._core.wire, bye.dialog
        branch = wire.branch()
        data = dialog.request(wire, "BYE", branch, dialog.next_seq(), [*credentials], bye.body, bye.rest)
        self._core.layer.request(data, "BYE", branch, dialog.flow, (self, bye), now)

    def _bye_again(self, bye: Bye, response: Message, now: float) -> None:
        """A PBX wants to know who hangs up."""
        found = bye.proof.headers(response, "BYE", bye.dialog.request_uri, self._core.wire.token())
        if found is not None:
            self._send_bye(bye, found, now)

    def await_ack(self, dialog: Dialog, tx: ServerTransaction, data: bytes, now: float) -> None:
        """Send our 2xx again until its ACK comes (RFC 3261 13.3.1.4)."""
        ok = PendingOk(data, tx.flow, tx.request, T1, now + OK_LIFE)
        dialog.ok = ok
        ok.timer = self._core.timers.set(now + T1, lambda at: self._again(dialog, ok, at))

    def _again(self, dialog: Dialog, ok: PendingOk, now: float) -> None:
        if dialog.ok is not ok:
            return
        if now >= ok.deadline:
            self.acknowledged(dialog, now)
            self.hang_up(dialog.call, 408, "No ACK", now)
            return
        self._core.wire.send(ok.data, ok.flow)
        ok.interval = min(2 * ok.interval, T2)
        ok.timer = self._core.timers.set(min(now + ok.interval, ok.deadline), lambda at: self._again(dialog, ok, at))

    def acknowledged(self, dialog: Dialog, now: float) -> None:
        """Our 2xx is sent no more; a BYE that waited for that goes now."""
        parting = dialog.parting
        self.stop_ok(dialog)
        if parting is not None:
            self.part(dialog, now, *parting)

    def no_bye(self, dialog: Dialog) -> None:
        """The other end hung up. It knows the dialog, so it has our first 2xx; an answer to a re-INVITE may have been
        lost, and is sent until its ACK comes (RFC 3261 13.3.1.4, 15.1.2)."""
        dialog.parting = None
        if dialog.ok is not None and dialog.ok.first:
            self.stop_ok(dialog)

    def stop_ok(self, dialog: Dialog) -> None:
        if dialog.ok is not None:
            self._core.timers.cancel(dialog.ok.timer)
        dialog.ok = dialog.parting = None

    def hang_up(self, call: Call, code: int, reason: str, now: float) -> None:
        """The edge ends a call: BYE on both legs, or a failure when it was not answered."""
        if call.ended:
            return
        if call.pair is None:
            self._cancel_all(call, now)
            self._finish(call, code, reason, now)
            return
        for dialog in _legs(call):
            self.part(dialog, now)
        self.end(call, code, reason, now)

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


def _user_id(call: Call) -> str:
    user = call.callee or call.caller
    return user.id if user else ""


def _legs(call: Call) -> tuple[Dialog, ...]:
    """The pair of dialogs of an answered call."""
    return (call.pair, call.pair.other) if call.pair is not None else ()


def _plain_uri(text: str) -> str:
    """The URI without parameters, for records."""
    return text.partition(";")[0][:MAX_TEXT]


def _without_tag(request: Message) -> str:
    """The caller's From for the other leg: same name and URI, our own tag comes behind."""
    caller = request.from_
    params = {name: value for name, value in caller.params.items() if name != "tag"}
    return str(Address(caller.display, caller.uri, params, caller.uri_text))


def _final(response: Message, *, from_phone: bool) -> Final:
    """What of a failure passes to the caller. A challenge does not: its credentials are not the caller's."""
    status, reason = response.status, response.reason
    redirect = ""
    if status in (401, 407):
        return Final(403, "Refused By The PBX")
    if 300 <= status < 400:
        try:
            contacts = response.contacts
        except BadMessage:
            contacts = []
        redirect = (contacts[0].uri.user or "") if contacts else ""
        return Final(480, "Temporarily Unavailable", redirect=redirect)
    return Final(status, reason, lines_to_pass(response, from_phone=from_phone), response.body, redirect)


def _rank(final: Final) -> tuple[int, int]:
    """Lower is better: 6xx ends all, then the lowest class, then what says more than 408 or 480."""
    kind = final.status // 100
    return (0 if kind == 6 else kind, 1 if final.status in (408, 480) else 0)
