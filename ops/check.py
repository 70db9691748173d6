"""Everything that can be checked without running the tests: one line for each check, and why it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "types": ["mypy"],
    "style": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "import rules": ["pytest", "-q", "--no-header", "tests/unit/test_imports.py"],
    "templates": ["ops.checks.templates"],
    "migrations": ["ops.checks.migrations"],
    "lock files": ["ops.checks.locks"],
    "tracked files": ["ops.checks.tracked"],
}


class Result(NamedTuple):
    """How one check went."""

    name: str
    passed: bool
    output: str
    seconds: float


def run(name: str) -> Result:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *CHECKS[name]],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Result(name, done.returncode == 0, done.stdout.strip(), time.monotonic() - began)


def main() -> int:
    """The slow one first, so that the others go on beside it."""
    failed = 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for result in pool.map(run, CHECKS):
            failed += not result.passed
            print(f"{'ok  ' if result.passed else 'FAIL'}  {result.name:14} {result.seconds:5.1f} s", flush=True)
            if not result.passed:
                print(*(f"      {line}" for line in result.output.splitlines()), sep="\n", flush=True)
    print(f"{failed} of {len(CHECKS)} checks failed" if failed else f"All {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
