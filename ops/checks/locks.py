"""The lock files fit pyproject.toml and package.json: `make lock` writes them anew. No network is needed."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DIRECT = re.compile(r"tenantry(\[[\w,]+\])? \(pyproject\.toml\)")
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==(?P<version>\S+)(?: ; [^\n\\]+)? \\\n(?P<rest>(?:[ ]{4}.*\n?)*)",
    re.MULTILINE,
)
PROBLEM = "{lock}: {sentence}; run `make lock`"


def locked(lock: str) -> dict[str, re.Match[str]]:
    return {canonicalize_name(entry["name"]): entry for entry in ENTRY.finditer((ROOT / lock).read_text())}


def check_python(lock: str, wanted: list[str]) -> Iterator[str]:
    entries = locked(lock)
    requirements = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, wanted)}
    for name, requirement in requirements.items():
        if name not in entries:
            yield PROBLEM.format(lock=lock, sentence=f"{name} is not locked")
        elif not requirement.specifier.contains(entries[name]["version"], prereleases=True):
            yield PROBLEM.format(
                lock=lock, sentence=f"{name} {entries[name]['version']} is not {requirement.specifier}"
            )
    for name, entry in entries.items():
        if DIRECT.search(entry["rest"]) and name not in requirements:
            yield PROBLEM.format(lock=lock, sentence=f"{name} is locked, but no longer asked for")
        if "--hash=sha256:" not in entry["rest"]:
            yield PROBLEM.format(lock=lock, sentence=f"{name} has no hash")


def check_same(lock: str, dev: str) -> Iterator[str]:
    """What is tested is what runs."""
    tested = locked(dev)
    for name, entry in locked(lock).items():
        if name not in tested or tested[name]["version"] != entry["version"]:
            yield PROBLEM.format(lock=dev, sentence=f"{name} {entry['version']} of {lock} is not in it")


def check_front_end() -> Iterator[str]:
    package = json.loads((ROOT / "package.json").read_text())
    lock: dict[str, Any] = json.loads((ROOT / "package-lock.json").read_text())
    for kind in ("dependencies", "devDependencies"):
        if lock["packages"][""].get(kind, {}) != package.get(kind, {}):
            yield PROBLEM.format(lock="package-lock.json", sentence=f"its {kind} are not those of package.json")
    for path, entry in lock["packages"].items():
        if path and "integrity" not in entry:
            yield PROBLEM.format(lock="package-lock.json", sentence=f"{path} has no integrity hash")
        if "resolved" in entry:
            yield PROBLEM.format(lock="package-lock.json", sentence=f"{path} names the host that it came from")


def main() -> int:
    """Print every problem."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runs, develops = project["dependencies"], project["optional-dependencies"]["dev"]
    found = [
        *check_python("requirements.lock", runs),
        *check_python("requirements-dev.lock", runs + develops),
        *check_same("requirements.lock", "requirements-dev.lock"),
        *check_front_end(),
    ]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
