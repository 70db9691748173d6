"""Requests outside a dialog that are passed on and answered with what comes back: MESSAGE, NOTIFY, OPTIONS to a user.

They fork to all phones of a user like calls do; the first 2xx wins, else the best answer (RFC 3261 16.7).
"""

from __future__ import annotations

from collections.abc import Sequence

from sipd.auth import Proof, account_of, at_pbx
from sipd.callerid import shown_to_phone
from sipd.calls import Calls, Core
from sipd.dialogs import hops_left, lines_to_pass, target_of
from sipd.flow import Flow, may_go
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.registrar import Binding, preference
from sipd.relayed import challenges_of, credentials_of, passes
from sipd.rounds import MAX_BRANCHES
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User
from sipd.sending import Sending
from sipd.timers import Timer
from sipd.transaction.layer import ClientTransaction, ServerTransaction

OPTIONS_SECONDS = 2.0
"""For phones to answer OPTIONS: PBXs ask so whether a registration is still good, and wait 3 seconds."""


class Passed:
    """One request on its way to one or more places."""

    __slots__ = ("best", "done", "open", "relayed", "timer", "to_phone", "tx")

    def __init__(self, tx: ServerTransaction, places: int, *, to_phone: bool, relayed: bool = False) -> None:
        self.tx = tx
        self.open = places
        self.to_phone = to_phone
        self.relayed = relayed
        """The phone that asks has to answer the challenges of the PBX itself."""
        self.best: Message | None = None
        self.done = False
        self.timer: Timer | None = None


class Copy:
    """One of the places, and what to answer a challenge with."""

    __slots__ = (
        "bindings", "call_id", "from_value", "headers", "passed", "proof", "rest", "route", "sending", "seq",
        "tag", "to_value", "uri",
    )  # fmt: skip

    def __init__(
        self, passed: Passed, uri: str, from_value: str, to_value: str, rest: bytes, proof: Proof | None = None
    ) -> None:
        self.passed = passed
        self.uri = uri
        self.from_value = from_value
        self.to_value = to_value
        self.rest = rest
        self.headers: list[Header] = []
        self.bindings: dict[Flow, Binding] = {}
        """Of a place that is a phone: what it registered over each of its flows."""
        self.call_id = self.tag = ""
        self.route = ""
        self.proof = proof
        """Of a place that is a PBX."""
        self.seq = 1
        self.sending: Sending | None = None


class Passing:
    """Passes requests to users' phones and to connections."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls

    def to_user(self, tx: ServerTransaction, index: TenantIndex, user: User, trusted: bool, now: float) -> bool:
        """To all phones of a user; False when there are none (RFC 3261 16.5)."""
        return self.to_users(tx, index, user.extension, [user], trusted, now)

    def to_users(
        self,
        tx: ServerTransaction,
        index: TenantIndex,
        extension: str,
        users: Sequence[User],
        trusted: bool,
        now: float,
    ) -> bool:
        """To all phones of the users behind an extension, at most `MAX_BRANCHES` of them; False when there are none."""
        bindings = [
            binding for user in users for binding in self._core.registrar.bindings((index.tenant.id, user.id), now)
        ]
        bindings = [binding for binding in bindings if may_go(tx.request.uri, binding.flow)]
        bindings = sorted(bindings, key=preference, reverse=True)[:MAX_BRANCHES]
        passed = Passed(tx, len(bindings), to_phone=True)
        to_value = f"<{Uri.build(extension, index.tenant.primary_domain)}>"
        from_value = shown_to_phone(tx.request, index, None)
        rest = lines_to_pass(tx.request, from_phone=not trusted)
        for binding in bindings:
            copy = Copy(passed, target_of(binding.contact), from_value, to_value, rest)
            flows = self._core.registrar.flows_of(binding, now)
            copy.bindings = {b.flow: b for b in flows if may_go(tx.request.uri, b.flow)}
            self._name(copy, index, None)
            self._send(copy, list(copy.bindings), [], now)
        if tx.method == "OPTIONS" and bindings and not passed.done:
            passed.timer = self._core.timers.set(now + OPTIONS_SECONDS, lambda at: self._settle(passed, at, 480))
        return bool(bindings)

    def to_connection(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection, uri: str, now: float
    ) -> None:
        """To a PBX, as the user that it knows."""
        account = account_of(index, user, connection)
        identity = account.username if account else user.extension
        copy = Copy(
            Passed(tx, 1, to_phone=False, relayed=passes(account)),
            uri,
            f"<{at_pbx(connection, identity)}>",
            f"<{uri}>",
            lines_to_pass(tx.request, from_phone=True),
            Proof(account, self._core.cipher),
        )
        copy.route = self._core.ways.route(index.tenant.id, user.id, connection)
        if passes(account):
            copy.call_id, copy.tag = self._calls.names.of(tx.request)
            copy.seq = tx.request.cseq.number
        self._name(copy, index, connection)

        def ready(flows: Sequence[Flow], then: float) -> None:
            flows = [flow for flow in flows if may_go(tx.request.uri, flow)]
            if flows:
                self._send(copy, flows, [], then)
            else:
                self.answer(tx, 503, then)

        self._core.ways.find(index.tenant.id, connection, ready, now)

    def answer(self, tx: ServerTransaction, status: int, now: float, headers: list[Header] | None = None) -> None:
        data = build.response(tx.request, status, None, self._core.wire.token(), headers or [], b"", tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)

    def _name(self, copy: Copy, index: TenantIndex, towards: Connection | None) -> None:
        """What stays the same when it is sent once more, with credentials (RFC 3261 8.1.3.5)."""
        request = copy.passed.tx.request
        copy.call_id = copy.call_id or self._core.wire.token(16)
        copy.from_value += f";tag={copy.tag or self._core.wire.token()}"
        copy.headers = self._calls.renamed(request, index, towards)
        if copy.passed.relayed:
            copy.headers += credentials_of(request)
        self._core.events.leg(copy.call_id, request.call_id, tenant=index.tenant.id)

    def _send(self, copy: Copy, flows: Sequence[Flow], credentials: list[Header], now: float) -> None:
        def over(flow: Flow, branch: str) -> bytes:
            return self._request_over(copy, flow, branch, credentials)

        method, pinned = copy.passed.tx.request.method, copy.passed.to_phone
        copy.sending = self._core.sender.request(method, flows, over, (self, copy), now, pinned=pinned)

    def _request_over(self, copy: Copy, flow: Flow, branch: str, credentials: list[Header]) -> bytes:
        request, binding = copy.passed.tx.request, copy.bindings.get(flow)
        return build.request(
            request.method,
            copy.uri if binding is None else target_of(binding.contact),
            [
                ("Via", self._core.wire.via(flow, branch)),
                ("Max-Forwards", hops_left(request.max_forwards)),
                *(("Route", value) for value in (binding.path if binding is not None else ())),
                *([("Route", copy.route)] if copy.route else []),
                ("From", copy.from_value),
                ("To", copy.to_value),
                ("Call-ID", copy.call_id),
                ("CSeq", f"{copy.seq} {request.method}"),
                *copy.headers,
                *credentials,
            ],
            request.body,
            copy.rest,
        )

    def on_response(self, tx: ClientTransaction, copy: Copy, response: Message, now: float) -> None:
        passed = copy.passed
        if response.status < 200 or passed.done:
            return
        if response.status in (401, 407) and self._authenticate(tx, copy, response, now):
            return
        passed.open -= 1
        if passed.best is None or _rank(response.status) < _rank(passed.best.status):
            passed.best = response
        if response.status < 300 or passed.open == 0:
            self._settle(passed, now)

    def on_failure(self, sending: Sending, copy: Copy, reason: str, now: float) -> None:
        copy.passed.open -= 1
        if copy.passed.open == 0 and not copy.passed.done:
            self._settle(copy.passed, now)

    def _settle(self, passed: Passed, now: float, silence: int = 408) -> None:
        """The best answer; `silence`, where there is none."""
        passed.done = True
        self._core.timers.cancel(passed.timer)
        best = passed.best
        if best is None:
            self.answer(passed.tx, silence, now)
            return
        status = best.status if passed.relayed and best.status in (401, 407) else ours(best.status)
        tag = self._core.wire.token()
        rest = lines_to_pass(best, from_phone=passed.to_phone)
        reason = best.reason if status == best.status else None
        headers = [rest, *(challenges_of(best) if status in (401, 407) else [])]
        data = build.response(passed.tx.request, status, reason, tag, headers, best.body, passed.tx.source[1:3])
        self._core.layer.respond(passed.tx, status, data, now)

    def _authenticate(self, tx: ClientTransaction, copy: Copy, response: Message, now: float) -> bool:
        if copy.proof is None:
            return False
        found = copy.proof.headers(response, tx.method, copy.uri, self._core.wire.token())
        if found is not None and copy.sending is not None:
            copy.seq += 1
            self._send(copy, copy.sending.onward, [*found], now)
        return found is not None


def ours(status: int) -> int:
    """An answer as it passes: challenges and redirections are to us, and name what is none of the sender's."""
    if status in (401, 407):
        return 403
    return 480 if 300 <= status < 400 else status


def _rank(status: int) -> int:
    return 0 if status >= 600 else status // 100
