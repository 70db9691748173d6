"""Tables that a person wrote: their passwords are sealed, and the whole is loaded into a running node.

In such a file a secret may stand as `plain:` and the password. It is sealed before anything else sees it; a node
never takes one that is not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from sipd.commands import OK, WITH_ERRORS, UnreadableError, ask, read_table
from sipd.message.auth import ha1
from sipd.routing import codec
from sipd.routing.model import Table, Tenant, UpstreamAccount, User
from sipd.routing.seal import Cipher, seal
from sipd.routing.validate import validate

PLAIN = "plain:"
"""Before a password that is to be sealed."""
HA1_FIELDS = (("ha1_md5", "MD5"), ("ha1_sha256", "SHA-256"))

Doc = dict[str, Any]
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


def sealed(table: Table, cipher: Cipher) -> Table:
    """The same table with its plain secrets sealed, each at its place."""
    return replace(table, tenants=tuple(_tenant(tenant, cipher) for tenant in table.tenants))


def _tenant(tenant: Tenant, cipher: Cipher) -> Tenant:
    return replace(tenant, users=tuple(_user(tenant, user, cipher) for user in tenant.users))


def _user(tenant: Tenant, user: User, cipher: Cipher) -> User:
    found: Doc = {}
    for field, algorithm in HA1_FIELDS:
        text = getattr(user, field)
        if text.startswith(PLAIN):
            digest = ha1(algorithm, user.extension, tenant.primary_domain, text.removeprefix(PLAIN))
            found[field] = seal(cipher, (tenant.id, user.id, field), digest)
    upstream = tuple(_account(tenant, user, account, cipher) for account in user.upstream)
    return replace(user, upstream=upstream, **found)


def _account(tenant: Tenant, user: User, account: UpstreamAccount, cipher: Cipher) -> UpstreamAccount:
    if not account.password.startswith(PLAIN):
        return account
    place = (tenant.id, user.id, account.connection, "upstream")
    return replace(account, password=seal(cipher, place, account.password.removeprefix(PLAIN)))
