"""Tables that a person wrote: their passwords are sealed, and the whole is loaded into a running node.

In such a file a secret may stand as `plain:` and the password (`sipd.plain`); a node never takes one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from sipd.commands import OK, WITH_ERRORS, UnreadableError, ask, read_table
from sipd.plain import sealed
from sipd.routing import codec
from sipd.routing.model import Table
from sipd.routing.seal import Cipher
from sipd.routing.validate import validate

OpenCipher = Callable[[], Cipher]
"""Reads the key file; called only where there is something to seal. Raises ConfigError."""


def seal_file(path: str, cipher: OpenCipher, out: TextIO = sys.stdout) -> int:
    """Print the table with every `plain:` secret sealed. Raises UnreadableError."""
    print(json.dumps(codec.to_document(read_sealed(path, cipher)), ensure_ascii=False, indent=2), file=out)
    return OK


def load_file(path: str, cipher: OpenCipher, control: Path, version: int | None, out: TextIO = sys.stdout) -> int:
    """Seal, check, and make it the table of the node at `control`; prints every problem. Raises UnreadableError."""
    table = read_sealed(path, cipher)
    problems = validate(table)
    for problem in problems:
        print(f"{problem.path or 'table'}: {problem.severity}: {problem.message}", file=out)
    if any(problem.is_error for problem in problems):
        print("Not loaded: the table has errors.", file=out)
        return WITH_ERRORS
    if version is None:
        version = int(ask(control, {"do": "status"})["version"]) + 1
    encoded = codec.encode(table)
    answer = ask(control, {"do": "load", "version": version, "manifest": encoded.manifest, "parts": encoded.parts})
    print(
        f"Version {answer['version']} is enforced, {answer['ms']:.0f} ms after it was sent: {answer['hash']}", file=out
    )
    return OK


def read_sealed(path: str, cipher: OpenCipher) -> Table:
    """The table of a file, without plain secrets. Raises UnreadableError."""
    table, problems = read_table(path)
    if table is None:
        raise UnreadableError(f"{path} is no table: {problems[0].path}: {problems[0].message}")
    return sealed(table, cipher())
