"""Nonces: signed, for one realm and one place, each count good once; and as much work for every failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sipd.auth
from sipd.auth import WINDOW, Authenticator, Challenges, Checked, Uses, Verdict
from sipd.message.auth import Challenge, Credentials, answer
from sipd.message.scanner import scan
from sipd.routing.lookup import Compiled, compile_table
from sipd.settings import Settings
from tests.unit.core.bench import CIPHER, PASSWORD, Bench, two_tenants, wire

HERE, THERE = "203.0.113.1", "203.0.113.2"


class Desk:
    """An authenticator, and a phone that answers its challenges."""

    def __init__(self, memory: int = 1000) -> None:
        self.bench = Bench(two_tenants())
        self.opened: list[bytes] = []
        settings = replace(Settings(()), nonce_memory=memory)
        self.authenticator = Authenticator(self, self.bench.random, settings)
        self.table: Compiled = compile_table(two_tenants())
        self.now = 1000.0

    def encrypt(self, data: bytes, place: list[bytes], /) -> bytes:
        return CIPHER.encrypt(data, place)

    def decrypt(self, data: bytes, place: list[bytes], /) -> bytes:
        self.opened.append(data)
        return CIPHER.decrypt(data, place)

    def challenge(self, place: str = HERE, tenant: str = "acme", algorithm: str = "MD5") -> Challenge:
        self.now += 0.001
        offered = self.authenticator.challenges(f"{tenant}.example", "", place, stale=False, now=self.now)
        return next(c for c in (Challenge.parse(value) for _, value in offered) if c.algorithm == algorithm)

    def check(
        self, challenge: Challenge, nc: int = 1, place: str = HERE, method: str = "REGISTER", user: str = "101",
        password: str = PASSWORD, tenant: str = "acme", header: str = "",
    ) -> Checked:  # fmt: skip
        header = header or answer(challenge, user, password, method, "sip:acme.example", nc, "c")
        text = f"{method} sip:acme.example SIP/2.0\nVia: SIP/2.0/UDP x\nAuthorization: {header}\n\n"
        return self.authenticator.check(scan(wire(text)), self.table.tenants[tenant], place, self.now)


def verdicts(desk: Desk, challenge: Challenge, *counts: int) -> list[str]:
    return [desk.check(challenge, nc).verdict.value for nc in counts]


class TestReplay:
    def test_each_count_is_good_once_for_any_method(self) -> None:
        desk = Desk()
        challenge = desk.challenge()
        assert desk.check(challenge).verdict is Verdict.GOOD
        for method in ("REGISTER", "INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS", "REFER"):
            assert desk.check(challenge, method=method).verdict is Verdict.STALE

    def test_requests_that_overtake_each_other_are_served(self) -> None:
        desk = Desk()
        challenge = desk.challenge()
        assert verdicts(desk, challenge, 1, 3, 2, 2, 3, 5, 4) == ["good"] * 3 + ["stale"] * 2 + ["good"] * 2

    def test_behind_the_window_and_at_the_end_a_new_nonce_is_asked_for(self) -> None:
        desk = Desk()
        challenge = desk.challenge()
        assert verdicts(desk, challenge, 500, 500 - WINDOW + 1, 500 - WINDOW) == ["good", "good", "stale"]
        assert verdicts(desk, challenge, 0xFFFFFFFF, 1, 0xFFFFFFFF) == ["good", "stale", "stale"]

    @pytest.mark.parametrize("nc", ["0", "00000000", "-1", "+2", "0x2", " 2", "1_0", "zz", "000000001"])
    def test_counts_that_are_none(self, nc: str) -> None:
        desk = Desk()
        made = Credentials.parse(answer(desk.challenge(), "101", PASSWORD, "REGISTER", "sip:acme.example", 1, "c"))
        made = made._replace(nc=nc)
        secret = sipd.auth.ha1("MD5", "101", "acme.example", PASSWORD)
        response = sipd.auth.digest_response(made, secret, "REGISTER")
        header = str(made._replace(response=response)).replace(f"nc={nc}", f'nc="{nc}"')
        assert desk.check(desk.challenge(), header=header).verdict is Verdict.STALE

    def test_without_qop_a_nonce_serves_once_and_never_again(self) -> None:
        desk = Desk()
        challenge = desk.challenge()
        assert desk.check(challenge._replace(qop=())).verdict is Verdict.GOOD
        assert desk.check(challenge._replace(qop=())).verdict is Verdict.STALE
        assert verdicts(desk, challenge, 1, 2, 1000) == ["stale"] * 3
        other = desk.challenge()
        assert verdicts(desk, other, 7) == ["good"]
        assert desk.check(other._replace(qop=())).verdict is Verdict.STALE

    def test_what_was_forgotten_is_stale_and_never_fresh(self) -> None:
        desk = Desk(memory=10)
        old = [desk.challenge() for _ in range(5)]
        assert [desk.check(challenge).verdict for challenge in old] == [Verdict.GOOD] * 5
        for _ in range(20):
            assert desk.check(desk.challenge()).verdict is Verdict.GOOD
        for challenge in old:
            assert verdicts(desk, challenge, 1, 2, 99) == ["stale"] * 3

    @given(st.lists(st.integers(1, 400), max_size=300))
    def test_no_count_is_taken_twice(self, counts: list[int]) -> None:
        uses = Uses(0.0)
        taken = [count for count in counts if uses.take(count)]
        assert len(taken) == len(set(taken))
        highest = 0
        for count in counts:  # what is new and near the highest is never refused
            assert count in taken or count <= highest - WINDOW
            highest = max(highest, count)

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=120))
    def test_no_memory_is_too_small_to_refuse_a_replay(self, uses: list[tuple[int, int]]) -> None:
        desk = Bench()
        book = Challenges(desk.random, memory=3)
        nonces = [book.make("r", HERE, 1000.0 + number) for number in range(31)]
        good = []
        for number, count in uses:
            credentials = Credentials("u", "r", nonces[number], "x", "x", nc=f"{count:08x}", qop="auth")
            if book.use(credentials, 1000.0 + number):
                good.append((number, count))
        assert len(good) == len(set(good))


class TestWhere:
    def test_right_credentials_from_elsewhere_are_stale_and_wrong_ones_count_as_none(self) -> None:
        desk = Desk()
        challenge = desk.challenge(HERE)
        assert desk.check(challenge, place=THERE) == Checked(Verdict.STALE)
        assert desk.check(challenge, place=THERE, password="wrong") == Checked(Verdict.ABSENT)
        assert desk.check(challenge, place=HERE).verdict is Verdict.GOOD

    def test_a_nonce_is_for_one_realm(self) -> None:
        desk = Desk()
        challenge = desk.challenge(tenant="acme")._replace(realm="globex.example")
        assert desk.check(challenge, tenant="globex").verdict is Verdict.ABSENT

    def test_a_phone_that_moves_is_served_after_one_more_challenge(self) -> None:
        bench = Bench(two_tenants())
        bench.end(HERE).register()
        bench.end(THERE).register(expires=700)


class TestWork:
    """Counted, not timed: seals opened and hashes made."""

    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
    @pytest.mark.parametrize("remembered", [False, True])
    def test_a_wrong_user_and_a_wrong_password_cost_the_same(
        self, monkeypatch: pytest.MonkeyPatch, algorithm: str, remembered: bool
    ) -> None:
        desk, hashed = Desk(), []
        if remembered:
            assert desk.check(desk.challenge(algorithm=algorithm)).verdict is Verdict.GOOD
        plain = dict(sipd.message.auth._HASHES)
        for name, make in plain.items():
            monkeypatch.setitem(sipd.message.auth._HASHES, name, _counted(hashed, make))
        costs = []
        for user, password in (("101", "wrong"), ("nobody", PASSWORD), ("102", "wrong"), ("101", "other")):
            challenge = desk.challenge(algorithm=algorithm)
            header = answer(challenge, user, password, "REGISTER", "sip:acme.example", 1, "c")
            desk.opened.clear()
            hashed.clear()
            assert desk.check(challenge, header=header).verdict is Verdict.WRONG
            costs.append((len(desk.opened), {len(data) for data in desk.opened}, [n // 64 for n in hashed]))
        assert costs == [costs[0]] * 4
        assert costs[0][0] == 1

    def test_the_answers_differ_in_nothing_but_nonce_and_names(self) -> None:
        bench = Bench(two_tenants())
        seen = set()
        for number, user in enumerate(("101", "909")):
            end = bench.end(f"203.0.113.{number}")
            aor = f"sip:{user}@acme.example"
            end.send(end.request("REGISTER", "sip:acme.example", from_=aor, to=aor, call_id="c"))
            answered = end.take(401)
            given_ = answer(Challenge.parse(answered.all("www-authenticate")[0]), user, "no", "REGISTER", "x", 1, "c")
            end.send(end.request("REGISTER", "sip:acme.example", from_=aor, to=aor, call_id="c", Authorization=given_))
            for message in (answered, end.take(401)):
                challenges = [Challenge.parse(value)._replace(nonce="") for value in message.all("www-authenticate")]
                seen.add((message.status, message.reason, tuple(message._names), tuple(challenges)))
        assert len(seen) == 1


def _counted(hashed: list[int], make: Callable[[bytes], str]) -> Callable[[bytes], str]:
    def counted(data: bytes) -> str:
        hashed.append(len(data))
        return make(data)

    return counted
