"""Calls from before a restart, made of what `keeping` wrote (docs/decisions/0020).

An answered call goes on. One that rang ends: its caller gets 500, its phones CANCEL, and it has its record. One that
had ended, of which not all ends may know, is told to them once more.
"""

from __future__ import annotations

from typing import Any

from sipd.auth import PbxAccount, account_of
from sipd.calls import OK_LIFE, Branch, Call, Calls, Core
from sipd.dialogs import Dialog, PendingOk
from sipd.flow import DEFAULT_PORTS, WEB, Flow
from sipd.keeping import ANSWER, BRANCH, CALL, LEG, MARK, Record, unpacked
from sipd.message import build
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, Tenant, User
from sipd.session import Interval
from sipd.transaction import tables
from sipd.transaction.layer import T1, ClientTransaction, ServerTransaction, answer_to

STOPPED = (500, "Server Internal Error")
"""What the caller of a call that rang hears. Not 503: that would say that the edge has no room for other calls."""

TEXTS = ("call_id", "local_tag", "remote_tag", "local", "remote", "routes", "target", "contact")
"""Fields of a dialog without which it is none."""


class NoListener(ValueError):
    """The way that a call went is none any more: the node listens on other transports now."""


class Resuming:
    """Collects records until the table is there, and makes calls of them then."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls
        self._records: dict[str, dict[str, Record]] = {}
        """By call and kind."""

    def restore(self, kind: str, key: str, record: Record) -> None:
        self._records.setdefault(key, {})[kind] = record if isinstance(record, dict) else {}

    def restate(self) -> None:
        """Note once more what waits for the table: the store has lost it."""
        for id_, kinds in self._records.items():
            for kind, record in kinds.items():
                self._core.events.change(kind, id_, record)

    def load(self, now: float) -> None:
        """The first table is there."""
        records, self._records = self._records, {}
        for id_, kinds in records.items():
            try:
                self._resume(id_, kinds, now)
            except Exception:  # noqa: BLE001 - a record of another release, or spoilt, costs that call alone
                self._core.events.count("calls.unreadable")
                self._give_up(id_, kinds, now)

    def _resume(self, id_: str, kinds: dict[str, Record], now: float) -> None:
        mark = kinds.get(MARK, {})
        if ANSWER in kinds and mark.get("telling") == "":  # both ends know that it is over
            self._forget(id_, kinds)
            return
        call = self._call(id_, kinds[CALL])
        call.kept = frozenset(kinds)
        try:
            if "over" in mark:
                code, reason = mark["over"]
                self._ended(call, code, reason, now)
            self._go_on(call, kinds, now)
        except Exception:
            self._core.layer.destroy(call.tx)
            raise

    def _ended(self, call: Call, code: int, reason: str, now: float) -> None:
        call.ended, call.code, call.reason = True, code, reason
        self._calls.bury_later(call, now)

    def _go_on(self, call: Call, kinds: dict[str, Record], now: float) -> None:
        branches = kinds[CALL]["branches"]
        if ANSWER in kinds:
            self._answered(call, kinds[ANSWER], kinds.get(MARK, {}), branches, now)
        elif call.ended:
            self._cancel_all(call, branches, now)
            self._calls.answer_again(call, now)
        else:
            self._calls.calls[call.id] = call
            self._cancel_all(call, branches, now)
            self._calls.refuse(call, *STOPPED, now, rule="restart")

    def _forget(self, id_: str, kinds: dict[str, Record]) -> None:
        for kind in kinds:
            self._core.events.change(kind, id_, None)

    def _give_up(self, id_: str, kinds: dict[str, Record], now: float) -> None:
        """What cannot be read is forgotten; a call that has not ended has its last event all the same."""
        self._forget(id_, kinds)
        call = self._calls.calls.get(id_)
        if call is not None:
            call.kept = frozenset()
            self._calls.end(call, *STOPPED, now)
            return
        began, answer = kinds.get(CALL, {}), kinds.get(ANSWER, {})
        if "tenant" in began and "over" not in kinds.get(MARK, {}):
            rang = answer.get("rang", began.get("rang"))
            self._core.events.add(
                now, "call.ended", tenant=_text(began, "tenant"), connection=_text(began, "connection"),
                user=_text(began, "callee") or _text(began, "caller"), call=id_, **{"from": _text(began, "from")},
                to=_text(began, "to"), direction=_text(began, "direction"), started=_epoch(began, "started") or now,
                answered=_epoch(answer, "answered"), ended=now, code=STOPPED[0], reason=STOPPED[1], by="edge",
                **(rang if isinstance(rang, dict) else {}),
            )  # fmt: skip

    # -- parts of a call

    def _call(self, id_: str, began: Record) -> Call:
        request = scan(began["head"].encode("latin-1"))
        index = self._index(began["tenant"])
        tx = self._transaction(request, self._flow(began["source"]))
        call = Call(id_, tx, index, began["direction"], float(began["started"]))
        tx.owner = call
        call.from_text, call.to_text = began["from"], began["to"]
        call.caller, call.callee = (_user(index, began[name]) for name in ("caller", "callee"))
        call.connection = _connection(index, began["connection"])
        call.rang_before = dict(began["rang"])
        call.media = began.get("media")
        self._core.events.leg(request.call_id, id_, tenant=index.tenant.id, call=True)
        return call

    def _index(self, tenant: str) -> TenantIndex:
        """The tenant as it is now; of one that is gone what a call needs: it goes on."""
        return self._core.table().tenants.get(tenant) or TenantIndex(Tenant(tenant, tenant, tenant, False, ""))

    def _transaction(self, request: Message, source: Flow) -> ServerTransaction:
        """The caller's INVITE. Over a stream it is answered where the caller takes connections (RFC 3261 18.2.2)."""
        if not request.has("via"):  # too long to be kept: it is not answered any more
            return ServerTransaction(self._core.layer, {tables.TERMINATED: {}}, (), request, source, source)
        flow = answer_to(request, source)
        if source.reliable and source.transport not in WEB:
            flow = source._replace(port=request.via.port or DEFAULT_PORTS[source.transport])
        return self._core.layer.resume_server(request, source, flow, None)

    def _flow(self, place: list[object]) -> Flow:
        """Raises NoListener."""
        transport, host, port, listener, *expected = place
        flow = self._core.settings.flow_to(host, port, transport, listener)  # type: ignore[arg-type]  # as we wrote it
        if flow is None:
            raise NoListener(f"no listener for {transport}")
        return self._core.wire.expect(flow, *expected) if expected else flow  # type: ignore[arg-type]

    def _branch(self, call: Call, record: Record) -> Branch:
        flow, contact = self._flow(record["flow"]), record["contact"]
        branch = Branch(call, record["uri"], [flow], record["from"], record["to"], lambda _: contact)
        branch.contact, branch.pinned = contact, record["pinned"]
        branch.call_id, branch.local_tag, branch.seq = record["call_id"], record["tag"], record["seq"]
        branch.user = _user(call.index, record["user"])
        branch.connection = _connection(call.index, record["connection"])
        if record["account"]:
            branch.account = _account(call.index, record["user"], record["connection"])
        branch.done = branch.cancelled = True
        call.branches.append(branch)
        self._core.events.leg(branch.call_id, call.id)
        return branch

    # -- what rang

    def _cancel_all(self, call: Call, branches: list[list[Any]], now: float, but: str = "") -> None:
        """CANCEL to all whose INVITE is under way as far as we know; `but` is the Call-ID of the one that answered.
        Whoever answered meanwhile is hung up on; who knows nothing of it says so."""
        for values in branches:
            record = unpacked(BRANCH, values) if values[0] != but else {}
            if not record.get("via"):
                continue
            branch = self._branch(call, record)
            data = build.request("INVITE", branch.uri, self._invite(branch, record))
            tx = self._core.layer.resume_invite(data, record["via"], branch.flow, (self._calls, branch))
            self._cancel_soon(tx, now)

    def _cancel_soon(self, tx: ClientTransaction, now: float) -> None:
        """An INVITE that was sent a moment ago must not be overtaken (RFC 3261 9.1)."""
        self._core.timers.set(now + T1, lambda at: self._core.layer.cancel(tx, (), at))

    def _invite(self, branch: Branch, record: Record) -> list[Header]:
        """What a CANCEL and an ACK take of it (RFC 3261 9.1, 17.1.1.3)."""
        return [
            ("Via", self._core.wire.via(branch.flow, record["via"])),
            *(("Route", route) for route in record["routes"].split("\n") if route),
            ("From", f"{branch.from_value};tag={branch.local_tag}"),
            ("To", branch.to_value),
            ("Call-ID", branch.call_id),
            ("CSeq", f"{branch.seq} INVITE"),
        ]

    # -- calls that were answered

    def _answered(self, call: Call, answer: Record, mark: Record, branches: list[list[Any]], now: float) -> None:
        legs = [unpacked(LEG, answer[side]) for side in "ab"]
        sent = next(values for values in branches if values[0] == legs[1]["call_id"])
        branch = self._branch(call, unpacked(BRANCH, sent))
        a, b = self._leg(call, None, legs[0], now), self._leg(call, branch, legs[1], now)
        a.peer, b.peer, call.pair = b, a, a
        call.answered_at, call.rang_before = float(answer["answered"]), dict(answer["rang"])
        call.callee = branch.user if branch.connection is None else call.callee
        call.local_tags.append(a.local_tag)
        branch.dialogs[b.remote_tag] = b
        if call.media is not None and not call.ended:
            branch.bridge = self._calls.bridging.resume(call.media, call.id)
        for leg, side in ((a, "a"), (b, "b")):
            self._calls.dialogs[leg.call_id, leg.local_tag] = leg
            leg.usages = {event: float(until) for event, until in answer.get(f"usages_{side}", {}).items()}
            leg.acked = int(mark.get(side, 0))
        if not call.ended:
            self._count(call, answer, now)
        for leg, side in ((a, "a"), (b, "b")):
            self._send_ok(leg, answer.get(f"ok_{side}"), answer.get(f"until_{side}", 0.0), now)
        self._settle_invite(call, now)
        if now < call.answered_at + OK_LIFE:
            self._cancel_all(call, branches, now, but=b.call_id)
        for leg, side in ((a, "a"), (b, "b")):
            if side in mark.get("telling", ""):
                self._calls.part(leg, now)

    def _count(self, call: Call, answer: Record, now: float) -> None:
        """It is a call in progress again, counts in limits, and is watched."""
        self._calls.calls[call.id] = call
        call.scopes = [(str(kind), str(tenant), str(id_)) for kind, tenant, id_ in answer["scopes"]]
        self._core.limits.resume(call.scopes)
        agreed = Interval(int(answer["session"][0]), answer["session"][1]) if answer["session"] is not None else None
        self._calls.sessions.resume(call, agreed, answer["session_at"] or now, now)

    def _leg(self, call: Call, branch: Branch | None, record: Record, now: float) -> Dialog:
        flow = self._flow(record["flow"])
        if not all(isinstance(record[name], str) for name in TEXTS):
            raise ValueError("texts of a dialog are none")
        leg = Dialog(call, record["call_id"], record["local_tag"], flow, pinned=record["pinned"])
        leg.branch, leg.resumed = branch, True
        leg.remote_tag, leg.local, leg.remote = record["remote_tag"], record["local"], record["remote"]
        leg.local_seq = leg.kept_seq = int(record["seq"])
        leg.remote_seq, leg.route_set = record["remote_seq"], record["routes"].split("\n") if record["routes"] else []
        leg.target, leg.contact = record["target"], record["contact"]
        leg.acks = {int(seq): data.encode("latin-1") for seq, data in record["acks"].items()}
        if record["account"] is not None:
            leg.account = _account(call.index, *record["account"])
        user = call.caller if branch is None else branch.user
        if leg.pinned and user is not None:
            leg.send_to(self._core.registrar.resume((call.index.tenant.id, user.id), leg.target, flow, now))
        leg.aim(self._core.wire, now)
        return leg

    def _send_ok(self, leg: Dialog, ok: Record | None, until: float, now: float) -> None:
        """Our 2xx that has no ACK yet goes out again, until it comes. When the time for that was over meanwhile, the
        ACK may have come to nobody: then the other leg's INVITE, which waits for it, is acknowledged."""
        if ok is None or ok["seq"] == leg.acked:
            return
        leg.other.unacked = ok["unacked"]
        if until <= now:
            self._calls.send_ack(leg.other, b"", b"")
            return
        data, flow = ok["data"].encode("latin-1"), self._flow(ok["flow"])
        flow = leg.flow if flow.reliable else flow
        self._core.wire.send(data, flow)
        self._calls.send_until_acked(leg, PendingOk(data, flow, ok["seq"], T1, until, first=ok["first"]), now)

    def _settle_invite(self, call: Call, now: float) -> None:
        """The caller's INVITE may come again for a while: it was answered, and begins no other call."""
        if call.answered_at is not None and now < call.answered_at + OK_LIFE:
            self._core.layer.respond(call.tx, 200, b"", now)
        else:
            self._core.layer.destroy(call.tx)


def _text(record: Record, name: str) -> str:
    """A text of a record that may be spoilt."""
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _epoch(record: Record, name: str) -> float | None:
    """A time of a record that may be spoilt."""
    value = record.get(name)
    return value if isinstance(value, float) else None


def _user(index: TenantIndex, id_: str) -> User | None:
    """The user as it is now; of one that is gone the id, for the record."""
    return index.users_by_id.get(id_) or User(id_, "", "", False, "", "") if id_ else None


def _connection(index: TenantIndex, id_: str) -> Connection | None:
    if not id_:
        return None
    return index.connections.get(id_) or Connection(id_, "", False, False, "", "", 0, "udp", tls_verify=True)


def _account(index: TenantIndex, user: str, connection: str) -> PbxAccount | None:
    """What answers the PBX's challenges; None when the table has it no more."""
    known, at = index.users_by_id.get(user), index.connections.get(connection)
    return account_of(index, known, at) if known is not None and at is not None else None
