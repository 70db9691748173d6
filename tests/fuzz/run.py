"""Long fuzzing of the core and the parsers with atheris: `make fuzz`, `make fuzz TARGET=parsers SECONDS=600`.

What is asserted is what the test suite asserts for a few seeds (tests/unit/core/hostile.py, judge.py): no exception,
well-formed answers or silence, nothing that stays. An input that breaks this is written to `var/fuzz/TARGET`, and is
tried again by `make fuzz TARGET=TARGET AGAIN=FILE`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

INSTRUMENTED = (
    "sipd.message",
    "sipd.transaction",
    "sipd.edge",
    "tests.unit.core.hostile",
    "tests.unit.message.anybytes",
)
MISSING = "atheris is not installed: it is made for x86_64 and Python before 3.14, and comes with `make check`"
LONGEST = 4096
"""Octets of one input."""
STEPS = 60


def siege() -> Callable[[bytes], None]:
    """Peers that know SIP, steered by the bytes."""
    from tests.unit.core.hostile import Attack, Fate, Siege

    def one(data: bytes) -> None:
        fate, siege = Fate(data), Siege()
        attack = Attack(siege, fate)
        for _ in range(STEPS):
            if fate.spent:
                break
            attack.step()
        siege.finish()

    return one


def bytes_() -> Callable[[bytes], None]:
    """The bytes themselves, from a stranger, the PBX, a phone and over a stream."""
    from tests.unit.core.hostile import Siege

    def one(data: bytes) -> None:
        siege = Siege()
        end = siege.ends[(data[0] if data else 0) % len(siege.ends)]
        siege.strike(data[1:], end.flow)
        siege.finish()

    return one


def parsers() -> Callable[[bytes], None]:
    """Scanner, framer and value parsers: nothing but BadMessage, and what is read is written the same again."""
    from tests.unit.message.anybytes import read_all

    return read_all


TARGETS = {"siege": siege, "bytes": bytes_, "parsers": parsers}


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("target", choices=TARGETS)
    words.add_argument("--seconds", type=int, default=60, help="when to stop (60)")
    words.add_argument("--again", type=Path, help="an input that was found before")
    args = words.parse_args()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        print(MISSING, file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=list(INSTRUMENTED)), contextlib.suppress(ImportError):
        one = TARGETS[args.target]()
    if args.again:
        one(args.again.read_bytes())
        print("this input does no harm any more")
        return 0
    home = ROOT / "var" / "fuzz" / args.target
    home.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={args.seconds}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={home}/",
        "-timeout=30",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], str(home), *options], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
