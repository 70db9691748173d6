"""Passwords as a person writes them into a table, `plain:` in front: sealed before anything else sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sipd.message.auth import ha1
from sipd.routing.model import Table, Tenant, UpstreamAccount, User
from sipd.routing.seal import Cipher, seal

PLAIN = "plain:"
"""Before a password that is to be sealed."""
HA1_FIELDS = (("ha1_md5", "MD5"), ("ha1_sha256", "SHA-256"))


class NoKey:
    """A cipher for tables that are only looked at: what it seals has the right shape, and opens nowhere."""

    def encrypt(self, data: bytes, associated_data: list[bytes], /) -> bytes:
        return bytes(32)

    def decrypt(self, data: bytes, associated_data: list[bytes], /) -> bytes:
        raise ValueError("sealed without a key")


def sealed(table: Table, cipher: Cipher) -> Table:
    """The same table with its plain secrets sealed, each at its place."""
    return replace(table, tenants=tuple(_tenant(tenant, cipher) for tenant in table.tenants))


def _tenant(tenant: Tenant, cipher: Cipher) -> Tenant:
    return replace(tenant, users=tuple(_user(tenant, user, cipher) for user in tenant.users))


def _user(tenant: Tenant, user: User, cipher: Cipher) -> User:
    found: dict[str, Any] = {}
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
