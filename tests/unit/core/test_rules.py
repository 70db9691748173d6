"""Rules of dialogs that both legs must obey: glare, reliable provisional answers, hops, loops, early dialogs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.message.message import Message
from tests.unit.core.bench import PBX, Bench, End, table, tenant, two_tenants
from tests.unit.core.talk import PHONE, Outgoing, Ringing, Talk

RELIABLE = {"Require": "100rel", "RSeq": "1"}


def statuses(end: End) -> list[object]:
    return [m.status or m.method for m in end.taken()]


class TestGlare:
    """RFC 3261 14.2, RFC 3311 5.2."""

    def test_an_update_offers_while_we_offer(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("UPDATE", 2, body="offer"))
        talk.phone.take("UPDATE")
        talk.phone.send(talk.from_phone("UPDATE", 1, body="offer"))
        talk.phone.take(491)
        talk.pbx.nothing()

    def test_an_update_without_offer_passes_meanwhile(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("UPDATE", 2, body="offer"))
        talk.phone.take("UPDATE")
        talk.phone.send(talk.from_phone("UPDATE", 1))
        talk.pbx.take("UPDATE")

    def test_a_second_update_before_the_first_is_answered(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("UPDATE", 2))
        first = talk.phone.take("UPDATE")
        talk.pbx.send(talk.from_pbx("UPDATE", 3))
        assert talk.pbx.take(500).has("retry-after")
        talk.phone.answer(first, 200)
        talk.pbx.take(200)
        talk.pbx.send(talk.from_pbx("UPDATE", 4))
        talk.phone.take("UPDATE")

    def test_an_update_offers_during_a_reinvite(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("INVITE", 2, body="offer", Contact=f"<sip:{PBX}:5060>"))
        talk.pbx.take(100)
        talk.phone.take("INVITE")
        talk.phone.send(talk.from_phone("UPDATE", 1, body="offer"))
        talk.phone.take(491)
        talk.pbx.send(talk.from_pbx("UPDATE", 3, body="offer"))
        talk.pbx.take(500)

    def test_a_reinvite_during_an_update_that_offers(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("UPDATE", 2, body="offer"))
        talk.phone.take("UPDATE")
        talk.phone.send(talk.from_phone("INVITE", 1, body="offer", Contact="<sip:101@10.0.0.9>"))
        talk.phone.take(491)

    def test_491_of_an_end_passes(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("INVITE", 2, body="offer", Contact=f"<sip:{PBX}:5060>"))
        talk.pbx.take(100)
        talk.phone.answer(talk.phone.take("INVITE"), 491)
        talk.pbx.take(491)


class TestPrack:
    """RFC 3262: each early dialog counts its provisional answers itself."""

    def forks(self) -> tuple[Bench, End, list[tuple[End, Message]]]:
        bench = Bench(two_tenants())
        pbx, one, two = bench.end(PBX), bench.end(*PHONE), bench.end("203.0.113.2", 5063)
        one.register()
        two.register(Contact="<sip:101@10.0.0.77:5062>;expires=600")
        uri = "sip:101@acme.example"
        more = {"Contact": f"<sip:{PBX}:5060>", "Supported": "100rel, 199"}
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", **more))
        pbx.take(100)
        return bench, pbx, [(end, end.take("INVITE")) for end in (one, two)]

    def test_across_forks(self) -> None:
        _, pbx, phones = self.forks()
        early = []
        for number, (phone, invite) in enumerate(phones):
            phone.answer(invite, 183, f"t{number}", body="answer", **RELIABLE)
            early.append(pbx.take(183))
        assert early[0].to.tag != early[1].to.tag
        for number, (phone, invite) in reversed(list(enumerate(phones))):
            pbx.send(pbx.within(early[number], "PRACK", 2 + number, body="offer", RAck="1 1 INVITE"))
            prack = phone.take("PRACK")
            assert (prack.get("rack"), prack.to.tag) == (f"1 {invite.cseq.number} INVITE", f"t{number}")
            assert prack.body == b"offer"
            phone.answer(prack, 200, body="answer")
            assert pbx.take(200).body == b"answer"

    def test_199_says_which_fork_is_over(self) -> None:
        _, pbx, phones = self.forks()
        for number, (phone, invite) in enumerate(phones):
            phone.answer(invite, 180, f"t{number}")
        first, _ = pbx.taken()
        phones[0][0].answer(phones[0][1], 486, "t0")
        over = pbx.take(199)
        assert (over.to.tag, over.get("reason")) == (first.to.tag, "SIP;cause=486")
        phones[1][0].answer(phones[1][1], 486, "t1")
        pbx.take(486)

    def test_199_of_an_end_passes(self) -> None:
        on = Outgoing()
        on.pbx.answer(on.invite, 180, "a")
        on.pbx.answer(on.invite, 199, "a")
        assert statuses(on.phone) == [180, 199]

    def test_a_repeated_one_is_passed_again_until_its_prack(self) -> None:
        on = Ringing(Supported="100rel")
        for _ in range(2):
            on.phone.answer(on.invite, 183, "p", **RELIABLE)
        assert statuses(on.pbx) == [183, 183]

    @pytest.mark.parametrize("late", [False, True])
    def test_481_leaves_the_call(self, late: bool) -> None:
        on = Ringing(Supported="100rel")
        on.phone.answer(on.invite, 183, "p", **RELIABLE)
        early = on.pbx.take(183)
        if late:
            on.phone.answer(on.invite, 200, "p")
            on.pbx.take(200)
        on.pbx.send(on.pbx.within(early, "PRACK", 2, RAck="9 1 INVITE"))
        on.phone.answer(on.phone.take("PRACK"), 481)
        on.pbx.take(481)
        on.pbx.nothing()
        assert len(on.bench.edge.calls(None, on.bench.now)) == 1

    def test_a_caller_that_takes_none_gets_a_plain_one(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 183, "p", body="early", **RELIABLE)
        early = on.pbx.take(183)
        assert (early.has("require"), early.has("rseq"), early.body) == (False, False, b"early")
        prack = on.phone.take("PRACK")
        assert prack.get("rack") == f"1 {on.invite.cseq.number} INVITE"
        on.phone.answer(on.invite, 183, "p", **RELIABLE)  # our PRACK is on its way
        on.phone.nothing()
        on.phone.answer(prack, 200)
        on.phone.answer(on.invite, 200, "p")
        assert statuses(on.pbx) == [183, 200]

    def test_421_passes_with_what_is_required(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 421, "p", Require="100rel")
        assert on.pbx.take(421).get("require") == "100rel"


class TestEarly:
    def test_481_in_an_early_dialog_leaves_the_others(self) -> None:
        on = Outgoing()
        on.pbx.answer(on.invite, 183, "one", Contact=f"<sip:one@{PBX}>")
        on.pbx.answer(on.invite, 183, "two", Contact=f"<sip:two@{PBX}>")
        first, _ = on.phone.taken()
        on.phone.send(on.phone.within(first, "UPDATE", 9))
        on.pbx.answer(on.pbx.take("UPDATE"), 481)
        on.phone.take(481)
        on.pbx.answer(on.invite, 200, "two", Contact=f"<sip:two@{PBX}>")
        on.phone.take(200)

    def test_a_late_offer_is_answered_in_the_ack(self) -> None:
        on = Ringing()
        assert not on.invite.body
        on.phone.answer(on.invite, 200, "p", body="offer")
        ok = on.pbx.take(200)
        assert ok.body == b"offer"
        on.pbx.send(on.pbx.within(ok, "ACK", 1, body="answer", Content_Type="application/sdp"))
        ack = on.phone.take("ACK")
        assert (ack.body, ack.get("content-type")) == (b"answer", "application/sdp")
        on.phone.answer(on.invite, 200, "p", body="offer")  # it was lost
        assert on.phone.take("ACK").body == b"answer"


class TestHops:
    """RFC 3261 16.3, 16.6."""

    def test_they_count_down_inside_a_call_too(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("INFO", 2).replace("Max-Forwards: 70", "Max-Forwards: 9"))
        assert talk.phone.take("INFO").max_forwards == 8
        talk.pbx.send(talk.from_pbx("INFO", 3).replace("Max-Forwards: 70", "Max-Forwards: 0"))
        talk.pbx.take(483)
        talk.pbx.send(talk.from_pbx("BYE", 4).replace("Max-Forwards: 70", "Max-Forwards: 0"))
        talk.pbx.take(200)

    def test_none_at_all_is_no_fault(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("INFO", 2).replace("Max-Forwards: 70\n", ""))
        assert talk.phone.take("INFO").max_forwards == 70


class TestLoops:
    """A PBX that is a proxy sends our own INVITE back, with its Call-ID."""

    def bench(self) -> tuple[Bench, End]:
        acme = tenant("acme", of_connection={"internal_calls": "through_pbx"})
        users = tuple(replace(u, forward_always="555") if u.extension == "101" else u for u in acme.users)
        bench = Bench(table(replace(acme, users=users)))
        return bench, bench.end(PBX)

    def back(self, pbx: End, sent: Message, uri: str) -> None:
        """The proxy sends it on, with its own Via on top."""
        via = b"Via: SIP/2.0/UDP 198.51.100.10:5060;branch=" + pbx.branch().encode() + b"\r\n"
        _, _, rest = sent.data.partition(b"\r\n")
        pbx.send(f"INVITE {uri} SIP/2.0\r\n".encode() + via + rest)

    def test_a_forward_that_leads_back_is_482(self) -> None:
        bench, pbx = self.bench()
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", Contact=f"<sip:{PBX}>"))
        pbx.take(100)
        self.back(pbx, pbx.take("INVITE"), uri)
        assert statuses(pbx) == [100, 482]
        (refused,) = bench.events("refused")
        assert refused["rule"] == "loop"

    def test_a_call_through_the_pbx_to_another_user_is_none(self) -> None:
        bench, pbx = self.bench()
        phone, other = bench.end(*PHONE), bench.end("203.0.113.2", 5063)
        phone.register()
        other.register(extension="102", Contact="<sip:102@10.0.0.8:5062>;expires=600")
        phone.call("102")
        self.back(pbx, pbx.take("INVITE"), "sip:102@acme.example")
        pbx.take(100)
        other.take("INVITE")


def test_a_phone_that_moves_is_answered_where_it_is() -> None:
    talk = Talk()
    moved = talk.bench.end(PHONE[0], 6000)
    moved.send(talk.from_phone("INFO", 1).replace(":5062", ":6000"))
    talk.pbx.answer(talk.pbx.take("INFO"), 200)
    moved.take(200)
    talk.pbx.send(talk.from_pbx("INVITE", 2, Contact=f"<sip:{PBX}:5060>"))
    moved.take("INVITE")
