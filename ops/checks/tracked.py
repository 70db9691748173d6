"""What must not be in a tracked file: package registry hosts, folders of this machine, big or fetched files."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|yarnpkg)\.(?:org|io|com)\b", re.IGNORECASE)
EVERYBODYS = {Path(path) for path in ("/", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/var/tmp")}  # noqa: S108
"""Folders that documents and tests may name."""
MAX_BYTES = 300_000
THIS = Path(__file__).relative_to(ROOT)


def folders() -> tuple[str, ...]:
    """The clone, the folder that it is in, and the home folder, unless everybody has that one."""
    mine = {ROOT, ROOT.parent, Path.home()} - EVERYBODYS
    return tuple(f"{path}/" for path in mine)


def problems(path: Path, text: str, forbidden: tuple[str, ...]) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := REGISTRY.search(line):
            yield f"{path}:{number}: names the package registry {found[0]}"
        yield from (
            f"{path}:{number}: names {folder}, a folder of this machine" for folder in forbidden if folder in line
        )


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def main() -> int:
    """Print every problem."""
    found = []
    forbidden = folders()
    for path in tracked():
        data = (ROOT / path).read_bytes()
        if len(data) > MAX_BYTES:
            found.append(f"{path}: {len(data)} bytes; generated and fetched files do not belong here")
        if path != THIS and b"\0" not in data[:8000]:
            found += problems(path, data.decode(errors="replace"), forbidden)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
