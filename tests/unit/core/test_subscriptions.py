"""SUBSCRIBE and NOTIFY between phones and the PBX (RFC 6665), and REFER outside a dialog (RFC 3515)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd import subscriptions
from sipd.message.message import Message
from sipd.routing.model import Table
from tests.unit.core.bench import PBX, Bench, End, credentials, table, tenant, two_tenants
from tests.unit.core.talk import CHALLENGE, PHONE, Talk, assert_nothing_left

AOR = "sip:101@acme.example"
ACTIVE = "active;expires=600"


def opening(end: End, method: str, uri: str, headers: dict[str, str], call_id: str = "s") -> Message | None:
    """A phone's request with digest; what the edge says at once, if anything."""
    end.send(end.request(method, uri, from_=AOR, to=uri, call_id=call_id, **headers))
    headers = {**headers, "Authorization": credentials(end.take(401), "101", method, uri)}
    end.send(end.request(method, uri, from_=AOR, to=uri, call_id=call_id, **headers))
    mine = end.taken()
    return mine[0] if mine else None


def test_people_see_who_watches_what() -> None:
    on = Watching()
    look = lambda: on.bench.edge.registrations("acme", on.bench.now)["subscriptions"]  # noqa: E731
    (asked,) = look()
    assert (asked["user"], asked["connection"], asked["event"]) == ("acme-101", "acme-pbx", "dialog")
    assert (asked["from"], asked["to"], asked["state"], asked["expires"]) == (
        AOR,
        "sip:102@acme.example",
        "asked",
        None,
    )
    on.accepted()
    on.heard(1)
    (active,) = look()
    assert active["state"] == "active"
    assert on.bench.now + 500 < active["expires"] < on.bench.now + 700
    assert on.bench.edge.registrations("globex", on.bench.now)["subscriptions"] == []
    assert on.bench.edge.vitals()["subscriptions"] == 1


class Watching:
    """A phone subscribes at the PBX; `sent` is the SUBSCRIBE as it came there."""

    def __init__(
        self, routing: Table | None = None, transport: str = "udp", uri: str = "sip:102@acme.example",
        method: str = "SUBSCRIBE", **headers: str,
    ) -> None:  # fmt: skip
        self.bench = Bench(routing or two_tenants())
        self.pbx, self.phone = self.bench.end(PBX), self.bench.end(*PHONE, transport)
        self.phone.register()
        self.method = method
        self.headers = {"Contact": "<sip:101@10.0.0.9:5062>", **headers}
        if method == "SUBSCRIBE":
            self.headers = {"Event": "dialog", "Expires": "600", **self.headers}
        assert opening(self.phone, method, uri, self.headers) is None
        self.sent = self.pbx.take(method)

    def accepted(self, tag: str = "n", status: int = 200, **headers: str) -> Message:
        headers = {"Expires": "600", "Contact": f"<sip:{tag}@{PBX}:5060>", **headers}
        self.pbx.answer(self.sent, status, tag, **headers)
        return self.phone.take(status)

    def notify(self, cseq: int, state: str = ACTIVE, tag: str = "n", body: str = "<dialog-info/>", **more: str) -> str:
        more = {"Event": "dialog", "Subscription_State": state, "Contact": f"<sip:{tag}@{PBX}:5060>", **more}
        return self.pbx.back(self.sent, tag, "NOTIFY", cseq, body, **more)

    def refresh(self, ok: Message, cseq: int, **more: str) -> str:
        more = {"Event": "dialog", "Contact": "<sip:101@10.0.0.9:5062>", **more}
        return self.phone.within(ok, "SUBSCRIBE", cseq, **more)

    def heard(self, cseq: int, state: str = ACTIVE, tag: str = "n") -> Message:
        """One NOTIFY to its end."""
        self.pbx.send(self.notify(cseq, state, tag))
        notify = self.phone.take("NOTIFY")
        self.phone.answer(notify, 200)
        self.pbx.take(200)
        return notify

    def assert_nothing_left(self, seconds: float = 200) -> None:
        self.bench.pass_time(seconds)
        assert_none(self.bench)


def assert_none(bench: Bench) -> None:
    part = bench.edge.subscriptions
    assert not part._all
    assert not part._asks
    assert not part._forks
    assert not part._of_user
    assert not part._on_flow
    assert_nothing_left(bench)


@pytest.mark.parametrize(
    "event", ["message-summary", "dialog", "presence", "presence.winfo", "reg", "conference", "refer", "x-own;id=7"]
)
def test_a_subscription_from_its_beginning_to_its_end(event: str) -> None:
    on = Watching(Event=event, Accept="application/x")
    assert (on.sent.uri, on.sent.from_.uri_text) == ("sip:102@pbx.example", "sip:101@pbx.example")
    assert on.sent.contacts[0].uri_text == "sip:101@acme.example"
    assert (on.sent.get("event"), on.sent.get("accept"), on.sent.get("expires")) == (event, "application/x", "600")
    assert not on.sent.has("authorization")
    ok = on.accepted()
    assert ok.get("expires") == "600"
    on.pbx.send(on.notify(1, Event=event))
    notify = on.phone.take("NOTIFY")
    assert (notify.body, notify.get("event"), notify.get("subscription-state")) == (b"<dialog-info/>", event, ACTIVE)
    assert (notify.from_.tag, notify.to.tag, notify.call_id) == (ok.to.tag, ok.from_.tag, "s")
    on.phone.answer(notify, 200)
    on.pbx.take(200)
    on.phone.send(on.refresh(ok, 9, Event=event, Expires="600"))
    again = on.pbx.take("SUBSCRIBE")
    assert (again.uri, again.to.tag, again.cseq.number) == (f"sip:n@{PBX}:5060", "n", on.sent.cseq.number + 1)
    on.pbx.answer(again, 200, Expires="600", Contact=f"<sip:n@{PBX}:5060>")
    on.phone.take(200)
    on.phone.send(on.refresh(ok, 10, Event=event, Expires="0"))
    on.pbx.answer(on.pbx.take("SUBSCRIBE"), 200, Expires="0", Contact=f"<sip:n@{PBX}:5060>")
    assert on.phone.take(200).get("expires") == "0"
    on.heard(2, "terminated;reason=timeout")
    on.assert_nothing_left()


def test_a_phones_own_message_summary_is_asked_for_by_its_account() -> None:
    on = Watching(uri=AOR, Event="message-summary")
    assert on.sent.uri == "sip:101@pbx.example"


def test_a_challenge_is_answered_with_the_users_account() -> None:
    on = Watching()
    on.pbx.answer(on.sent, 401, "c", WWW_Authenticate=CHALLENGE.format("pbx", "n"))
    again = on.pbx.take("SUBSCRIBE")
    assert again.has("authorization")
    assert (again.call_id, again.from_.tag) == (on.sent.call_id, on.sent.from_.tag)
    on.sent = again
    ok = on.accepted()
    on.heard(1)
    on.phone.send(on.refresh(ok, 9, Expires="600"))
    on.pbx.answer(on.pbx.take("SUBSCRIBE"), 407, Proxy_Authenticate=CHALLENGE.format("pbx", "n"))
    on.pbx.answer(on.pbx.take("SUBSCRIBE"), 200, Expires="600")
    on.phone.take(200)


@pytest.mark.parametrize("status", [403, 404, 423, 480, 489, 500, 600])
def test_a_refusal_passes(status: int) -> None:
    on = Watching()
    more = {"Min_Expires": "700"} if status == 423 else {"Allow_Events": "presence"}
    on.pbx.answer(on.sent, status, "n", **more)
    refused = on.phone.take(status)
    assert all(refused.get(name.replace("_", "-").lower()) == value for name, value in more.items())
    on.assert_nothing_left()


def test_a_challenge_that_cannot_be_answered_is_403() -> None:
    on = Watching()
    for number in range(2):
        on.pbx.answer(on.sent, 401, "c", WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        on.sent = on.pbx.take("SUBSCRIBE") if not number else on.sent
    assert not on.phone.take(403).has("www-authenticate")
    on.assert_nothing_left()


def test_a_redirection_is_not_the_subscribers_to_follow() -> None:
    on = Watching()
    on.pbx.answer(on.sent, 302, "n", Contact="<sip:102@198.51.100.99>")
    assert not on.phone.take(480).has("contact")


@pytest.mark.parametrize("change", [("To", "<sip:102@pbx.example>"), ("Record-Route", "nonsense")])
def test_a_2xx_of_which_no_dialog_can_be_made_is_502(change: tuple[str, str]) -> None:
    on = Watching()
    keep = on.sent.lines("via") + on.sent.lines("from") + on.sent.lines("call-id") + on.sent.lines("cseq")
    lines = {"To": "<sip:102@pbx.example>;tag=n", "Expires": "600"} | dict([change])
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    on.pbx.send(b"SIP/2.0 200 OK\r\n" + keep + text.encode() + b"Content-Length: 0\r\n\r\n")
    on.phone.take(502)
    on.assert_nothing_left()


def test_a_pbx_that_never_answers_is_408() -> None:
    on = Watching()
    on.bench.pass_time(33)
    on.phone.take(408)
    on.pbx.taken()
    on.assert_nothing_left()


class TestNotifyFirst:
    """RFC 6665 4.4.1: a NOTIFY makes the dialog, whether the 2xx has come or not."""

    def test_it_overtakes_the_2xx(self) -> None:
        on = Watching()
        notify = on.heard(1)
        ok = on.accepted()
        assert (ok.to.tag, ok.from_.tag) == (notify.from_.tag, notify.to.tag)
        on.heard(2, "terminated;reason=noresource")
        on.assert_nothing_left()

    def test_forks_are_dialogs_of_their_own(self) -> None:
        on = Watching()
        ok = on.accepted("one")
        first, second = on.heard(1, tag="one"), on.heard(1, tag="two")
        assert first.from_.tag == ok.to.tag != second.from_.tag
        on.phone.send(on.phone.within(second, "SUBSCRIBE", 9).replace("From:", "X:", 1))  # no From: nothing of ours
        on.phone.taken()
        turned = on.phone.back(second, "", "SUBSCRIBE", 20, Event="dialog", Expires="0").replace(";tag=\n", "\n")
        on.phone.send(turned)
        got = on.pbx.take("SUBSCRIBE")
        assert (got.to.tag, got.uri) == ("two", f"sip:two@{PBX}:5060")
        on.pbx.answer(got, 200, Expires="0")
        on.phone.take(200)
        on.heard(2, "terminated", "two")
        on.heard(2, "terminated", "one")
        on.assert_nothing_left()

    def test_too_late_is_481(self) -> None:
        on = Watching()
        on.accepted("one")
        on.bench.pass_time(33)
        on.pbx.send(on.notify(1, tag="two"))
        on.pbx.take(481)
        on.phone.nothing()

    def test_too_many_forks_are_481(self) -> None:
        on = Watching()
        for number in range(subscriptions.FORKS):
            on.heard(1, tag=f"n{number}")
        on.pbx.send(on.notify(1, tag="more"))
        on.pbx.take(481)

    def test_after_a_refusal_it_is_481(self) -> None:
        on = Watching()
        on.pbx.answer(on.sent, 489, "n")
        on.phone.take(489)
        on.pbx.send(on.notify(1))
        on.pbx.take(481)


class TestInside:
    def test_an_old_cseq_is_refused(self) -> None:
        on = Watching()
        ok = on.accepted()
        on.heard(5)
        on.pbx.send(on.notify(4))
        on.pbx.take(500)
        on.phone.send(on.refresh(ok, 1))
        on.phone.take(500)

    @pytest.mark.parametrize("status", [481, 489])
    def test_a_subscriber_that_does_not_know_it_ends_it(self, status: int) -> None:
        on = Watching()
        ok = on.accepted()
        on.pbx.send(on.notify(1))
        on.phone.answer(on.phone.take("NOTIFY"), status)
        on.pbx.take(status)
        on.phone.send(on.refresh(ok, 9))
        on.phone.take(481)
        on.assert_nothing_left()

    def test_a_notify_without_answer_ends_it(self) -> None:
        on = Watching()
        on.accepted()
        on.pbx.send(on.notify(1))
        on.bench.pass_time(33)
        on.pbx.take(408)
        on.phone.taken()
        on.assert_nothing_left()

    def test_a_refresh_that_finds_no_subscription(self) -> None:
        on = Watching()
        ok = on.accepted()
        on.phone.send(on.refresh(ok, 9))
        on.pbx.answer(on.pbx.take("SUBSCRIBE"), 481)
        on.phone.take(481)
        on.pbx.send(on.notify(1))
        on.pbx.take(481)
        on.assert_nothing_left()

    @pytest.mark.parametrize("status", [423, 500, 503])
    def test_a_refresh_that_fails_for_now_leaves_it(self, status: int) -> None:
        on = Watching()
        ok = on.accepted()
        on.phone.send(on.refresh(ok, 9))
        on.pbx.answer(on.pbx.take("SUBSCRIBE"), status)
        on.phone.take(status)
        on.heard(1)

    def test_a_refresh_too_short_is_423(self) -> None:
        on = Watching()
        on.phone.send(on.refresh(on.accepted(), 9, Expires="10"))
        assert on.phone.take(423).get("min-expires") == "60"
        on.pbx.nothing()

    def test_routes_and_targets(self) -> None:
        on = Watching()
        ok = on.accepted(Record_Route="<sip:198.51.100.20;lr>")
        on.phone.send(on.refresh(ok, 9))
        proxy = on.bench.end("198.51.100.20")
        got = proxy.take("SUBSCRIBE")
        assert got.split("route") == ["<sip:198.51.100.20;lr>"]
        proxy.answer(got, 200, Expires="600", Contact="<sip:moved@10.9.9.9>")
        on.phone.take(200)
        on.phone.send(on.refresh(ok, 10))
        assert proxy.take("SUBSCRIBE").uri == "sip:moved@10.9.9.9"

    def test_a_phone_that_moves_gets_its_notify_where_it_is(self) -> None:
        on = Watching()
        ok = on.accepted()
        moved = on.bench.end(PHONE[0], 6000)
        moved.send(on.refresh(ok, 9))
        on.pbx.answer(on.pbx.take("SUBSCRIBE"), 200, Expires="600")
        moved.take(200)
        on.pbx.send(on.notify(1))
        moved.take("NOTIFY")

    def test_a_phone_that_registers_anew_gets_its_notify_there(self) -> None:
        on = Watching()
        on.accepted()
        moved = on.bench.end(PHONE[0], 6000)
        moved.register()
        on.pbx.send(on.notify(1))
        moved.take("NOTIFY")

    @pytest.mark.parametrize("method", ["BYE", "INFO", "INVITE", "NOTIFY"])
    def test_other_methods_of_the_subscriber_are_405(self, method: str) -> None:
        on = Watching()
        on.phone.send(on.phone.within(on.accepted(), method, 9))
        assert on.phone.take(405).has("allow")

    def test_no_hops_left_is_483(self) -> None:
        on = Watching()
        on.accepted()
        on.pbx.send(on.notify(1).replace("Max-Forwards: 70", "Max-Forwards: 0"))
        on.pbx.take(483)


class TestItsEnd:
    def test_without_a_refresh_the_subscriber_is_told(self) -> None:
        on = Watching()
        on.accepted()
        on.heard(1, "active;expires=100")
        on.bench.pass_time(100 + subscriptions.PATIENCE + 1)
        notify = on.phone.taken()[0]
        assert notify.get("subscription-state") == "terminated;reason=timeout"
        assert notify.get("event") == "dialog"
        on.phone.answer(notify, 200)
        on.pbx.nothing()
        on.assert_nothing_left()

    def test_a_fetch_is_over_with_its_notify(self) -> None:
        on = Watching(Expires="0")
        on.accepted(Expires="0")
        on.heard(1, "terminated;reason=timeout")
        on.assert_nothing_left()

    def test_a_lost_stream_ends_it_towards_the_pbx(self) -> None:
        on = Watching(transport="tcp")
        on.accepted()
        on.heard(1)
        on.bench.edge.flow_lost(on.phone.flow, on.bench.now)
        on.bench.collect()
        last = on.pbx.take("SUBSCRIBE")
        assert (last.get("expires"), last.get("event"), last.to.tag) == ("0", "dialog", "n")
        on.pbx.answer(last, 401, WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        on.pbx.answer(on.pbx.take("SUBSCRIBE"), 200, Expires="0")
        on.pbx.send(on.notify(2, "terminated"))
        on.pbx.take(200)
        on.phone.nothing()
        on.assert_nothing_left()

    def test_a_stream_lost_before_the_answer(self) -> None:
        on = Watching(transport="tcp")
        on.bench.edge.flow_lost(on.phone.flow, on.bench.now)
        on.pbx.answer(on.sent, 200, "n", Expires="600", Contact=f"<sip:n@{PBX}>")
        assert on.pbx.take("SUBSCRIBE").get("expires") == "0"
        on.assert_nothing_left()

    def test_a_table_swap_leaves_it_alone(self) -> None:
        on = Watching()
        on.accepted()
        on.bench.load(two_tenants(mode=False))
        on.heard(1)

    @pytest.mark.parametrize("what", ["user", "tenant", "suspended", "connection"])
    def test_with_its_user_tenant_or_connection(self, what: str) -> None:
        on = Watching()
        on.accepted()
        acme, globex = tenant("acme"), tenant("globex")
        left = {
            "user": table(tenant("acme", extensions=("102",)), globex),
            "tenant": table(globex),
            "suspended": table(replace(acme, suspended=True), globex),
            "connection": table(replace(acme, connections=()), globex),
        }[what]
        on.bench.load(left)
        assert on.phone.take("NOTIFY").get("subscription-state") == "terminated;reason=noresource"
        assert on.pbx.take("SUBSCRIBE").get("expires") == "0"
        on.phone.taken()
        on.bench.pass_time(60)
        on.phone.taken()
        on.assert_nothing_left()


def test_limits_per_user_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    on = Watching()
    monkeypatch.setattr(subscriptions, "PER_USER", 1)
    refused = opening(on.phone, "SUBSCRIBE", "sip:102@acme.example", on.headers, "s2")
    assert refused is not None
    assert (refused.status, refused.has("retry-after")) == (480, True)
    monkeypatch.setattr(subscriptions, "IN_ALL", 1)
    refused = opening(on.phone, "SUBSCRIBE", "sip:102@acme.example", on.headers, "s3")
    assert refused is not None
    assert (refused.status, refused.has("retry-after")) == (503, True)
    on.accepted()
    on.heard(1, "terminated")
    on.assert_nothing_left()
    assert opening(on.phone, "SUBSCRIBE", "sip:102@acme.example", on.headers, "s4") is None


class TestFromThePbx:
    """The PBX subscribes to a user's phones."""

    def begun(self, transport: str = "udp") -> tuple[Bench, End, End, End]:
        bench = Bench(two_tenants())
        pbx, one = bench.end(PBX), bench.end(*PHONE, transport)
        two = bench.end("203.0.113.2", 5063)
        one.register()
        two.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
        more = {"Event": "dialog", "Expires": "300", "Contact": f"<sip:{PBX}:5060>"}
        pbx.send(pbx.request("SUBSCRIBE", AOR, from_="sip:x@pbx.example", to=AOR, call_id="p", **more))
        return bench, pbx, one, two

    def test_all_phones_are_asked_and_each_has_its_dialog(self) -> None:
        bench, pbx, one, two = self.begun()
        first, second = one.take("SUBSCRIBE"), two.take("SUBSCRIBE")
        one.answer(first, 489, "a")
        pbx.nothing()
        two.answer(second, 200, "b", Expires="300", Contact="<sip:101@10.0.0.77:5062>")
        ok = pbx.take(200)
        two.send(two.back(second, "b", "NOTIFY", 1, Event="dialog", Subscription_State="active;expires=300"))
        notify = pbx.take("NOTIFY")
        assert notify.from_.tag == ok.to.tag
        pbx.answer(notify, 200)
        two.take(200)
        pbx.send(pbx.within(ok, "SUBSCRIBE", 9, Event="dialog", Expires="0"))
        two.answer(two.take("SUBSCRIBE"), 200, Expires="0")
        pbx.take(200)
        two.send(two.back(second, "b", "NOTIFY", 2, Event="dialog", Subscription_State="terminated"))
        pbx.answer(pbx.take("NOTIFY"), 200)
        two.take(200)
        bench.pass_time(100)
        assert_none(bench)

    def test_the_best_refusal_comes_back(self) -> None:
        bench, pbx, one, two = self.begun()
        one.answer(one.take("SUBSCRIBE"), 500, "a")
        two.answer(two.take("SUBSCRIBE"), 489, "b", Allow_Events="presence")
        assert pbx.take(489).get("allow-events") == "presence"
        bench.pass_time(100)
        assert_none(bench)

    def test_a_phone_whose_stream_is_lost(self) -> None:
        bench, pbx, one, two = self.begun("tcp")
        two.answer(two.take("SUBSCRIBE"), 489, "b")
        one.answer(one.take("SUBSCRIBE"), 200, "a", Expires="300", Contact="<sip:101@10.0.0.9>")
        pbx.take(200)
        bench.edge.flow_lost(one.flow, bench.now)
        bench.collect()
        assert pbx.take("NOTIFY").get("subscription-state") == "terminated;reason=probation;retry-after=60"
        bench.pass_time(100)
        assert_none(bench)


class TestPublish:
    """RFC 3903: what a phone publishes is the PBX's to keep."""

    def test_it_passes_with_its_tags(self) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        opening(phone, "PUBLISH", AOR, {"Event": "presence", "Expires": "300", "SIP-If-Match": "e1"})
        got = pbx.take("PUBLISH")
        assert (got.uri, got.get("sip-if-match"), got.has("contact")) == ("sip:101@pbx.example", "e1", False)
        pbx.answer(got, 200, "p", SIP_ETag="e2", Expires="300")
        ok = phone.take(200)
        assert (ok.get("sip-etag"), ok.get("expires")) == ("e2", "300")
        bench.pass_time(60)
        assert_none(bench)

    def test_412_passes(self) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        opening(phone, "PUBLISH", AOR, {"Event": "presence", "SIP-If-Match": "old"})
        pbx.answer(pbx.take("PUBLISH"), 412, "p")
        phone.take(412)


class TestReferOutside:
    """RFC 3515: its 2xx makes a dialog in which the NOTIFYs come; with Refer-Sub: false it does not (RFC 4488)."""

    def test_its_notifies_come(self) -> None:
        on = Watching(
            uri="sip:555@acme.example",
            method="REFER",
            Refer_To="<sip:102@acme.example>",
            Referred_By=f"<{AOR}>;cid=x@y;p=1",
        )
        assert on.sent.get("refer-to") == "<sip:102@pbx.example>"
        assert on.sent.get("referred-by") == f"<{AOR}>;p=1"
        on.accepted(status=202)
        for number, (state, line) in enumerate(
            (("active", "100 Trying"), ("terminated;reason=noresource", "200 OK")), 1
        ):
            on.pbx.send(on.notify(number, state, body=f"SIP/2.0 {line}", Event="refer"))
            notify = on.phone.take("NOTIFY")
            assert notify.body == f"SIP/2.0 {line}".encode()
            on.phone.answer(notify, 200)
            on.pbx.take(200)
        on.assert_nothing_left()

    def test_without_a_subscription_nothing_stays(self) -> None:
        on = Watching(
            uri="sip:555@acme.example",
            method="REFER",
            Refer_To="<sip:102@acme.example>",
            Refer_Sub="false",
            Supported="norefersub",
        )
        assert on.sent.get("refer-sub") == "false"
        assert on.accepted(Refer_Sub="false").get("refer-sub") == "false"
        on.pbx.send(on.notify(1))
        on.pbx.take(481)
        on.assert_nothing_left()

    def test_one_from_the_pbx_to_a_phone(self) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        more = {"Refer_To": "<sip:103@pbx.example>", "Contact": f"<sip:{PBX}>"}
        pbx.send(pbx.request("REFER", AOR, from_="sip:x@pbx.example", to=AOR, call_id="p", **more))
        refer = phone.take("REFER")
        assert refer.get("refer-to") == "<sip:103@acme.example>"
        phone.answer(refer, 202, "r", Contact="<sip:101@10.0.0.9>")
        pbx.take(202)
        phone.send(phone.back(refer, "r", "NOTIFY", 1, Event="refer", Subscription_State="terminated"))
        pbx.answer(pbx.take("NOTIFY"), 200)
        phone.take(200)
        bench.pass_time(60)
        assert_none(bench)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_one_about_a_call_reaches_the_phone_that_has_it(self, swapped: bool) -> None:
        """RFC 4538: Target-Dialog."""
        talk = Talk()
        other = talk.bench.end("203.0.113.2", 5063)
        other.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
        tags = [talk.ok.to.tag, talk.ok.from_.tag][:: -1 if swapped else 1]
        named = f"t;local-tag={tags[0]};remote-tag={tags[1]}"
        more = {"Refer_To": "<sip:103@pbx.example>", "Contact": f"<sip:{PBX}>", "Target_Dialog": named}
        talk.pbx.send(talk.pbx.request("REFER", AOR, from_="sip:x@pbx.example", to=AOR, call_id="o", **more))
        refer = talk.phone.take("REFER")
        other.nothing()
        tags = ["p", talk.invite.from_.tag or ""][:: -1 if swapped else 1]
        assert refer.get("target-dialog") == f"{talk.invite.call_id};local-tag={tags[0]};remote-tag={tags[1]}"


def test_what_is_not_understood_in_a_dialog_is_420() -> None:
    talk = Talk()
    for name in ("Require", "Proxy_Require"):
        talk.pbx.send(talk.from_pbx("INFO", 2 if name == "Require" else 3, **{name: "nothing"}))
        assert talk.pbx.take(420).get("unsupported") == "nothing"
    talk.phone.nothing()
