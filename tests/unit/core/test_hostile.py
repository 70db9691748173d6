"""Whatever peers send: no fault, only well-formed messages, few of them, and nothing that stays (see `hostile`)."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sipd import upstream
from sipd.flow import Flow
from sipd.message.framing import Framer, FramingError
from sipd.message.message import Message
from tests.unit.core import judge
from tests.unit.core.bench import PBX
from tests.unit.core.hostile import Attack, Fate, Siege

STEPS = 25
"""Things that happen in one siege."""


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 2**32))
def test_a_siege_ends_as_it_began(seed: int) -> None:
    """Catches: an exception on any header of any peer, an answer that is malformed or injected into, an answer to
    somebody else, a storm, a call or transaction or timer that never ends."""
    siege = Siege()
    attack = Attack(siege, random.Random(seed))
    try:
        for _ in range(STEPS):
            attack.step()
        siege.finish()
    except BaseException as error:
        error.add_note("\n".join(siege.log[-4:]))
        raise


def test_the_siege_notices_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a siege that attacks nothing, or that looks away."""

    def broken(response: Message) -> int:
        return int(response.get("retry-after") or "none")

    monkeypatch.setattr(upstream, "retry_after", broken)
    with pytest.raises(ValueError, match="invalid literal"):
        for seed in range(20):
            siege = Siege()
            attack = Attack(siege, random.Random(seed))
            for _ in range(STEPS):
                attack.step()


@pytest.mark.parametrize(
    "data",
    [
        b"SIP/2.0 200 OK\r\nl: 1\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"SIP/2.0 200 OK\r\nl: 0\r\nL: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nX: a\nY: b\r\nl: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nX: a\rY: b\r\nl: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nX\r\nl: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nX: \0\r\nl: 0\r\n\r\n",
        b"INVITE  sip:a SIP/2.0\r\nl: 0\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nl: 0\r\n",
    ],
)
def test_the_judge_sees(data: bytes) -> None:
    with pytest.raises(judge.IllFormed):
        judge.shape(data)


def test_fate_is_told_by_bytes() -> None:
    """The fuzzer's bytes decide everything, and run out."""
    fate = Fate(b"\x05\xff\xff")
    assert fate.getrandbits(8) == 5
    assert fate.random() > 0.99
    assert fate.spent
    assert fate.choice("abc") == "a"


class TestFloods:
    """Many inputs of one kind, each a little different: the core remembers a bounded number of them."""

    MANY = 200

    def ringing(self) -> tuple[Siege, Message, Flow]:
        siege = Siege()
        invites = [(m, flow) for m, flow in siege.asked if m.method == "INVITE" and flow.host == "203.0.113.1"]
        return siege, *invites[-1]

    def answer(self, siege: Siege, invite: Message, flow: Flow, status: int, number: int) -> None:
        end = next(end for end in siege.ends if end.flow[:3] == flow[:3])
        end.answer(invite, status, f"many{number}")
        siege.judge()

    def test_early_dialogs_of_one_invite(self) -> None:
        """A phone or PBX that sends 18x with ever new tags (RFC 3261 12.1.2 sets no bound)."""
        siege, invite, flow = self.ringing()
        for number in range(self.MANY):
            self.answer(siege, invite, flow, 180, number)
        assert len(siege.bench.edge.calls_.dialogs) < 60
        siege.finish()

    def test_2xx_of_one_invite(self) -> None:
        """The same with 2xx: each would get an ACK and a BYE (RFC 3261 13.2.2.4)."""
        siege, invite, flow = self.ringing()
        for number in range(self.MANY):
            self.answer(siege, invite, flow, 200, number)
        assert siege.bench.edge.layer.clients < 60
        siege.finish()

    def test_the_first_2xx_wins_after_many_early_dialogs(self) -> None:
        siege, invite, flow = self.ringing()
        for number in range(self.MANY):
            self.answer(siege, invite, flow, 183, number)
        self.answer(siege, invite, flow, 200, self.MANY)
        assert [m.status for m, to in siege.told if to.host == PBX][-1] == 200
        siege.finish()


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30), st.booleans())
def test_a_stream_in_any_pieces_is_the_same_stream(junk: bytes, cuts: list[int], valid_first: bool) -> None:
    """Catches: frames that depend on where the network cut them; a frame that ends elsewhere than its message."""
    siege_data = b"".join(data for data, flow in SAMPLES)
    data = siege_data + junk if valid_first else junk + siege_data
    whole = frames(data, [])
    assert frames(data, cuts) == whole
    if valid_first:
        assert whole[0][: len(SAMPLES)] == [sample for sample, _ in SAMPLES]


def frames(data: bytes, cuts: list[int]) -> tuple[list[object], str, int]:
    """What comes out of a framer, the fault that ended it, and what waits in it."""
    framer, pos, out = Framer(), 0, list[object]()
    try:
        for cut in [*cuts, len(data)]:
            out += framer.feed(data[pos : pos + cut])
            pos += cut
    except FramingError as error:
        return out + error.before, str(error), 0
    return out, "", framer.pending


SAMPLES = Siege().templates[:6]
