"""REFER and what names a dialog: each leg's name of a call stays on that leg (RFC 3891, RFC 4538)."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.unit.core.bench import PBX, credentials
from tests.unit.core.talk import Talk


class Two(Talk):
    """A phone in two calls: one from the PBX (`Talk`), and one that it made to the PBX."""

    def __init__(self) -> None:
        super().__init__()
        self.phone.call("+49", Contact="<sip:101@10.0.0.9:5062>")
        self.out = self.pbx.take("INVITE")
        self.pbx.answer(self.out, 200, "q")
        self.second = self.phone.take(200)
        self.phone.send(self.phone.within(self.second, "ACK", self.second.cseq.number))
        self.pbx.take("ACK")


def test_an_attended_transfer_names_the_other_call_as_the_pbx_knows_it() -> None:
    on = Two()
    mine, theirs = on.second.from_.tag, on.second.to.tag
    named = quote(f"{on.second.call_id};to-tag={theirs};from-tag={mine}", safe="")
    on.phone.send(on.from_phone("REFER", 1, Refer_To=f'"B" <sip:+49@acme.example?Replaces={named}&X=1>;p=1'))
    refer = on.pbx.take("REFER")
    expected = quote(f"{on.out.call_id};to-tag=q;from-tag={on.out.from_.tag}", safe="")
    assert refer.get("refer-to") == f'"B" <sip:+49@pbx.example?Replaces={expected}&X=1>;p=1'
    assert on.second.call_id.encode() not in refer.data
    on.pbx.answer(refer, 202)
    on.phone.take(202)


def test_the_pbx_names_the_phones_other_call() -> None:
    on = Two()
    named = f"{on.out.call_id};from-tag=q;to-tag={on.out.from_.tag};x=1"
    uri = "sip:101@acme.example"
    more = {"Contact": f"<sip:{PBX}:5060>", "Replaces": named, "Target_Dialog": f"{on.out.call_id};local-tag=x"}
    on.pbx.send(on.pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="r", **more))
    invite = on.phone.take("INVITE")
    wanted = f"{on.second.call_id};from-tag={on.second.to.tag};to-tag={on.second.from_.tag};x=1"
    assert invite.get("replaces") == wanted
    assert invite.get("target-dialog") == f"{on.out.call_id};local-tag=x"  # no dialog of ours: as it came


@pytest.mark.parametrize(
    "value",
    [
        "<sip:102@else.example>", "sip:102@else.example;x=1", "nonsense", "<sip:1@a?Replaces=>", "<tel:1>",
        "<sip:1@a?Replaces=caf%E9%3Bto-tag%3D1%3bfrom-tag=2&X=%ff>", "<sip:%E9@a?replaces=%C3%A9@b>;p=1",
    ],
)  # fmt: skip
def test_what_names_no_dialog_of_ours_passes_as_it_came(value: str) -> None:
    talk = Talk()
    talk.phone.send(talk.from_phone("REFER", 1, Refer_To=value))
    assert talk.pbx.take("REFER").get("refer-to") == value


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("<sip:102@acme.example>", "<sip:102@pbx.example>"),
        ("sip:102@acme.example;x=1", "<sip:102@pbx.example>;x=1"),
        ("<sip:102@192.0.2.1:5060;local-domain=acme.example;user=phone>", "<sip:102@pbx.example;user=phone>"),
        ("<sip:192.0.2.1:5060>", "<sip:192.0.2.1:5060>"),
    ],
)
def test_a_target_in_the_tenant_is_named_as_the_pbx_knows_it(said: str, read: str) -> None:
    talk = Talk()
    talk.phone.send(talk.from_phone("REFER", 1, Refer_To=said))
    assert talk.pbx.take("REFER").get("refer-to") == read


@pytest.mark.parametrize("host", ["pbx.example", f"{PBX}:5060"])
def test_a_target_at_the_pbx_is_named_as_a_phone_dials_it(host: str) -> None:
    talk = Talk()
    talk.pbx.send(talk.from_pbx("REFER", 2, Refer_To=f"<sip:+49@{host}>"))
    assert talk.phone.take("REFER").get("refer-to") == "<sip:+49@acme.example>"


def test_another_tenants_call_is_not_told() -> None:
    talk = Talk()
    other = talk.bench.end("203.0.113.7", 5062)
    other.register("globex.example")
    uri, aor = "sip:1@globex.example", "sip:101@globex.example"
    other.send(other.request("INVITE", uri, from_=aor, to=uri, call_id="g", Contact="<sip:g@10.1.1.1>"))
    header = credentials(other.take(401), "101", "INVITE", uri)
    named = f"{talk.invite.call_id};to-tag={talk.invite.from_.tag};from-tag=p"
    more = {"Contact": "<sip:g@10.1.1.1>", "Authorization": header, "Replaces": named}
    other.send(other.request("INVITE", uri, from_=aor, to=uri, call_id="g", **more))
    assert talk.pbx.take("INVITE").get("replaces") == named
