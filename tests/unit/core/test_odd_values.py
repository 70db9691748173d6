"""Values that nobody should send, in headers that open, name or time a dialog: an answer, and no fault."""

from __future__ import annotations

import pytest

from sipd.subscriptions import MAX_LIFE
from tests.unit.core.bench import PBX, Bench, two_tenants
from tests.unit.core.talk import PHONE, Talk

ODD = [
    "", ";", ";;", ",", "=", "a=b", "\x7f", "é", "0", "-1", "9" * 30, "9" * 400, "a;b;c", 'x;y="', "<", ">", "<>",
    "<sip:", "sip:", "<sip:a@b?>", "<sip:a@b?Replaces>", "<sip:a@b?Replaces=%>", "<sip:a@b?Replaces=%3B&&=>",
    "<sip:%ff@acme.example>", "<sips:101@acme.example;transport=x>", "<tel:+1;ext=2>", "a@b;to-tag;from-tag",
    "a;to-tag=1;from-tag=", "100rel,,timer", "active;expires=x", "terminated;reason", "x" * 300, "1 2 3 4", "INVITE",
    "1 INVITE", "²", "١",
]  # fmt: skip
HEADERS = {
    "SUBSCRIBE": ("Event", "Expires", "Accept", "Target-Dialog", "Referred-By", "Supported"),
    "NOTIFY": ("Event", "Subscription-State", "Expires"),
    "REFER": ("Refer-To", "Referred-By", "Refer-Sub", "Target-Dialog", "Event"),
    "INVITE": ("Replaces", "Session-Expires", "Min-SE", "Supported", "Require", "Refer-To", "Target-Dialog", "Join"),
    "UPDATE": ("Session-Expires", "Min-SE", "Require"),
    "PRACK": ("RAck",),
    "PUBLISH": ("Event", "SIP-If-Match"),
}
CASES = [(method, name) for method, names in HEADERS.items() for name in names]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_outside_a_dialog(method: str, name: str) -> None:
    bench = Bench(two_tenants())
    pbx, phone = bench.end(PBX), bench.end(*PHONE)
    phone.register()
    uri = "sip:101@acme.example"
    for number, value in enumerate(ODD):
        headers = {"Contact": f"<sip:{PBX}:5060>", "Event": "dialog", name: value}
        pbx.send(pbx.request(method, uri, from_="sip:x@y", to=uri, call_id=f"c{number}", **headers))
        for got in phone.taken():
            if got.method == method:
                phone.answer(got, 200, "p", **{name.replace("-", "_"): value})
        assert pbx.taken(), value
        assert not bench.edge.faults, (value, bench.edge.faults)
    bench.pass_time(MAX_LIFE + 200)
    assert not bench.edge.faults
    assert not bench.edge.subscriptions._all
    assert not bench.edge.calls_.dialogs


@pytest.mark.parametrize(("method", "name"), CASES)
@pytest.mark.parametrize("side", ["pbx", "phone"])
def test_in_a_call(side: str, method: str, name: str) -> None:
    talk = Talk()
    here, there = (talk.pbx, talk.phone) if side == "pbx" else (talk.phone, talk.pbx)
    make = talk.from_pbx if side == "pbx" else talk.from_phone
    for number, value in enumerate(ODD, 10):
        if not talk.bench.edge.calls_.calls:
            break  # an answer that says so has ended it
        here.send(make(method, number, **{name.replace("-", "_"): value}))
        for got in there.taken():
            if got.method == method:
                there.answer(got, 200, **{name.replace("-", "_"): value})
                if method == "INVITE":
                    here.send(make("ACK", number))
        assert here.taken(), value
        assert not talk.bench.edge.faults, (value, talk.bench.edge.faults)
    talk.bench.pass_time(5000)
    assert not talk.bench.edge.faults
