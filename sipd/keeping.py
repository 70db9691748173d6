"""What is kept of calls, so that those that were up when the daemon was killed still end properly.

Three records of a call, each by the call's id, noted as changes that the shell commits before it sends what belongs
to them (docs/decisions/0020). `call`: how it began, written with the INVITEs that ring for it. `call.answer`: both
dialogs, written when it is answered and when they change. `call.mark`: small things that come later, which 2xx were
acknowledged and how the call ended. `resuming` makes calls of them after a restart.

A call that has ended is kept until its ends know: until our BYEs are answered, or for `Settings.zombie_time`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sipd.events import legible
from sipd.flow import Flow, expected_at
from sipd.message.uri import Uri

if TYPE_CHECKING:
    from sipd.calls import Branch, Call, Core
    from sipd.dialogs import Dialog
    from sipd.message.message import Message
    from sipd.session import Sessions
    from sipd.timers import Timer

CALL, ANSWER, MARK = "call", "call.answer", "call.mark"
KINDS = (CALL, ANSWER, MARK)
"""Names of the records in the store."""
TIMES = ("started", "answered", "session_at", "until_a", "until_b", "usages_a", "usages_b")
"""Fields of these records that are epoch seconds, or objects whose values are; all other numbers are not."""
AHEAD = 100
"""CSeqs that are set apart in a record: so many requests go out in a dialog before it is written again, and the first
one after a restart is above all that were sent (RFC 3261 12.2.1.1: only higher counts, a gap is no harm)."""
LATER_SECONDS = 0.1
"""How long a change may wait that does no harm when it is lost: it goes with others, which are written anyway."""
MAX_HEAD = 8192
"""Bytes that are kept of the INVITE that began a call. Its Vias are left out beyond: then its caller is not answered
after a restart. If that is not enough, the call is not kept."""
MAX_LEG = 4096
"""Characters of one dialog's names, addresses and routes; the answer to a call with more is not kept."""
MAX_OK = 16_384
"""Bytes of a 2xx, or of an ACK with a body, that are kept to be sent again."""
MAX_KEPT_BRANCHES = 32
"""INVITEs under way that are kept of one call, the newest; others get no CANCEL after a restart."""

Record = dict[str, Any]
BRANCH = (
    "call_id", "tag", "seq", "via", "flow", "uri", "from", "to", "routes", "contact", "pinned", "user", "connection",
    "account",
)  # fmt: skip
"""What is kept of an INVITE of ours, in this order. `via`: the branch of its Via; `account`: whether it has one."""
LEG = (
    "call_id", "local_tag", "remote_tag", "local", "remote", "seq", "remote_seq", "routes", "target", "flow", "pinned",
    "contact", "account", "acks",
)  # fmt: skip
"""What is kept of a dialog. `account`: ids of user and connection; `acks`: those with a body, by CSeq."""
HEAD = ("via", "from", "to", "call-id", "cseq")
"""Headers of the INVITE that are kept: what an answer to it needs."""


class Keeping:
    """Notes what changes in calls; `flush` makes records of it, once for each batch."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        self._core = core
        self._sessions = sessions
        self._changed: dict[Call, tuple[str, ...]] = {}
        """Records to be written with this batch."""
        self._later: dict[tuple[str, str], Call | None] = {}
        """Records that may wait; None: to be removed."""
        self._timer: Timer | None = None

    # -- what happens in calls

    def began(self, call: Call) -> None:
        """A call, or an INVITE for it, begins; or its `media` changed."""
        self._note(call, CALL)

    def changed(self, call: Call) -> None:
        """It was answered, or something in its dialogs changed."""
        if call.pair is not None:
            self._note(call, ANSWER)

    def acknowledged(self, dialog: Dialog, seq: int, now: float) -> None:
        """Our 2xx has its ACK. Without this record it would be sent again, which does no harm."""
        dialog.acked = seq
        if ANSWER in dialog.call.kept and not dialog.call.ended:
            self._wait((MARK, dialog.call.id), dialog.call, now)

    def ended(self, call: Call) -> None:
        """The call is over, but its ends may not know yet."""
        if call.kept or call.branches:
            self._note(call, MARK)
        else:
            self._changed.pop(call, None)

    def told(self, dialog: Dialog, now: float) -> None:
        """Our BYE was answered, or never will be."""
        dialog.telling = False
        call, peer = dialog.call, dialog.peer
        if call.ended and dialog in legs_of(call) and not (peer is not None and peer.telling):
            self.forget(call, now)

    def forget(self, call: Call, now: float) -> None:
        """Nothing of it matters any more."""
        self._changed.pop(call, None)
        for kind in call.kept:
            self._wait((kind, call.id), None, now)
        call.kept = frozenset()

    def restate(self, calls: Iterable[Call]) -> None:
        """Write all calls once more: the store has lost what it had."""
        for call in calls:
            self._changed[call] = (CALL,) if call.pair is None else (CALL, ANSWER)

    def _note(self, call: Call, kind: str) -> None:
        kinds = self._changed.get(call, ())
        if kind not in kinds:
            self._changed[call] = (*kinds, kind)

    def _wait(self, place: tuple[str, str], call: Call | None, now: float) -> None:
        self._later[place] = call
        if self._timer is None:
            self._timer = self._core.timers.set(now + LATER_SECONDS, self._no_longer)

    def _no_longer(self, now: float) -> None:
        self._timer = None
        waiting, self._later = self._later, {}
        for (kind, key), call in waiting.items():
            if call is None:
                self._core.events.change(kind, key, None)
            elif call.kept:
                self._write(call, kind)

    # -- records

    def flush(self) -> None:
        """Write what changed since the last time."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        for call, kinds in changed.items():
            for kind in kinds if len(kinds) == 1 else sorted(kinds, key=KINDS.index):
                if kind == CALL or call.kept:
                    self._write(call, kind)

    def _write(self, call: Call, kind: str) -> None:
        record = call_record(call) if kind == CALL else self._answer(call) if kind == ANSWER else mark_record(call)
        if record is None:
            self._core.events.count("calls.not_kept")
            return
        if kind not in call.kept:
            call.kept |= {kind}
        if self._later:
            self._later.pop((kind, call.id), None)
        self._core.events.change(kind, call.id, record)

    def _answer(self, call: Call) -> Record:
        """Of a call whose names and routes are too long only what its last event needs."""
        a, b = legs_of(call)
        of_a, of_b = _leg(a), _leg(b)
        if of_a is None or of_b is None:
            self._core.events.count("calls.not_kept")
            return {"answered": call.answered_at, "rang": rang(call)}
        session, at = self._sessions.state(call)
        record: Record = {
            "answered": call.answered_at,
            "scopes": list(call.scopes),
            "session": session,
            "session_at": at,
            "rang": rang(call),
            "a": of_a,
            "b": of_b,
        }
        for side, leg in (("a", a), ("b", b)):
            leg.kept_seq = leg.local_seq + AHEAD
            if leg.ok is not None and len(leg.ok.data) <= MAX_OK:
                ok, data = leg.ok, leg.ok.data.decode("latin-1")
                unacked = leg.other.unacked
                record[f"until_{side}"] = ok.deadline
                record[f"ok_{side}"] = {"seq": ok.seq, "data": data, "first": ok.first, "flow": written(ok.flow),
                                        "unacked": unacked}  # fmt: skip
            if leg.usages:
                record[f"usages_{side}"] = dict(leg.usages)
        return record


def call_record(call: Call) -> Record | None:
    """How a call began, and what rings for it; None: it is too long."""
    head = _head(call.request)
    if not head:
        return None
    under_way = [branch for branch in call.branches if _matters(branch)]
    record: Record = {
        "tenant": call.index.tenant.id,
        "direction": call.direction,
        "from": legible(call.from_text),
        "to": legible(call.to_text),
        "started": call.started,
        "caller": call.caller.id if call.caller is not None else "",
        "connection": call.connection.id if call.connection is not None else "",
        "callee": call.callee.id if call.callee is not None else "",
        "rang": rang(call),
        "head": head.decode("latin-1"),
        "source": written(call.tx.source),
        "branches": [_branch(branch) for branch in under_way[-MAX_KEPT_BRANCHES:]],
    }
    if call.media is not None:
        record["media"] = call.media
    return record


def mark_record(call: Call) -> Record:
    """Which of our 2xx have their ACK; and, once it is over, the caller's answer and which legs are told with BYE."""
    legs = tuple(zip("ab", legs_of(call), strict=False))
    record: Record = {side: leg.acked for side, leg in legs if leg.acked}
    if call.ended:
        record["over"] = [call.code, call.reason]
        record["telling"] = "".join([side for side, leg in legs if leg.telling])
    return record


def _head(request: Message) -> bytes:
    """The INVITE as far as an answer needs it; nothing when that is too much."""
    first = f"INVITE {request.uri} SIP/2.0\r\n".encode("utf-8", "surrogateescape")
    lines = [request.lines(name) for name in HEAD]
    for wanted in (lines, lines[1:]):
        head = b"".join((first, *wanted, b"\r\n"))
        if len(head) <= MAX_HEAD:
            return head
    return b""


def _branch(branch: Branch) -> list[Any]:
    """An INVITE of ours, as far as its CANCEL and the dialogs that its answers make need it: `BRANCH`."""
    tx = branch.sending.tx if branch.sending is not None else None
    return packed(
        [
            branch.call_id,
            branch.local_tag,
            branch.seq,
            tx.branch if tx is not None else "",
            written(tx.flow if tx is not None else branch.flow),
            branch.uri,
            branch.from_value,
            branch.to_value,
            "\n".join(_routes(branch)),
            branch.contact,
            branch.pinned,
            branch.user.id if branch.user is not None else "",
            branch.connection.id if branch.connection is not None else "",
            branch.account is not None,
        ]
    )


def _matters(branch: Branch) -> bool:
    """It rings, is being cancelled, or was answered."""
    return bool(branch.dialogs) or (branch.sending is not None and (branch.cancelled or not branch.done))


def _routes(branch: Branch) -> list[str]:
    """Its Route values."""
    headers = [*branch.route, *branch.headers] if branch.bindings else branch.headers
    return [header[1] for header in headers if isinstance(header, tuple) and header[0] == "Route"]


def _leg(leg: Dialog) -> list[Any] | None:
    """One dialog: `LEG`; None: it is too long."""
    if len(leg.local) + len(leg.remote) + len(leg.target) + sum(map(len, leg.route_set)) > MAX_LEG:
        return None
    return packed(
        [
            leg.call_id,
            leg.local_tag,
            leg.remote_tag,
            leg.local,
            leg.remote,
            leg.local_seq + AHEAD,
            leg.remote_seq,
            "\n".join(leg.route_set),
            leg.target,
            written(leg.flow),
            leg.pinned,
            leg.contact,
            [leg.account.user, leg.account.connection] if leg.account is not None else None,
            _acks(leg.acks) if leg.acks else {},
        ]
    )


def _acks(acks: dict[int, bytes]) -> dict[str, str]:
    return {str(seq): data.decode("latin-1") for seq, data in acks.items() if _has_body(data)}


def _has_body(ack: bytes) -> bool:
    """An ACK with the answer of a late offer (RFC 3261 13.2.1): it cannot be made anew."""
    return not ack.endswith(b"\r\n\r\n") and len(ack) <= MAX_OK


def packed(values: list[Any]) -> list[Any]:
    """With texts as the store takes them: those that are no ASCII as their bytes, one character each."""
    if _all_plain(values):
        return values
    return [value.encode("utf-8", "surrogateescape").decode("latin-1") if isinstance(value, str) else value
            for value in values]  # fmt: skip


def unpacked(names: tuple[str, ...], values: list[Any]) -> Record:
    """What `packed` made of the values of these names. Raises ValueError when they are others."""
    if not _all_plain(values):
        values = [value.encode("latin-1").decode("utf-8", "surrogateescape") if isinstance(value, str) else value
                  for value in values]  # fmt: skip
    return dict(zip(names, values, strict=True))


def _all_plain(values: list[Any]) -> bool:
    return "".join([value for value in values if isinstance(value, str)]).isascii()


def written(flow: Flow) -> list[Any]:
    """A flow, and whom it expects over TLS."""
    expected = expected_at(flow)
    return [*flow, *expected] if expected is not None else [*flow]


def legs_of(call: Call) -> tuple[Dialog, ...]:
    """The pair of dialogs of an answered call: with the caller, with the callee."""
    return (call.pair, call.pair.other) if call.pair is not None else ()


def rang(call: Call) -> dict[str, Any]:
    """Whom the call came to in the end, for its record: a group, extensions or a number, and forwards before that."""
    if call.rang_before is not None:
        return call.rang_before
    last = call.round
    detail: dict[str, Any] = {}
    if call.group is not None:
        detail["group"] = call.group.extension
    if last is not None and last.outbound:
        detail["rang"] = [legible(Uri.parse(branch.uri).user or "") for branch in last.branches[-1:]]
    elif call.pair is not None and call.callee is not None:
        detail["rang"] = [call.callee.extension]
    elif last is not None:
        detail["rang"] = list(dict.fromkeys(branch.user.extension for branch in last.branches if branch.user))
    if call.forwards:
        detail["forwards"] = [
            legible(f"{forward.by} {forward.why.reason} {forward.target}") for forward in call.forwards
        ]
    return detail
