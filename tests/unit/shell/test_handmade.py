"""A table that a person wrote: what is plain is sealed where it belongs, and nothing else changes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd import handmade
from sipd.commands import UnreadableError
from sipd.message.auth import ha1
from sipd.plain import NoKey, sealed
from sipd.routing import codec
from sipd.routing.model import Table
from sipd.routing.seal import SealError, unseal
from sipd.routing.validate import validate
from tests.unit.routing.cast import ACME, GLOBEX, INSTALLATION, TABLE

CIPHER = AESSIV(bytes(64))


def plain() -> Table:
    user = ACME.users[0]
    account = replace(user.upstream[0], password="plain:at the pbx")
    user = replace(user, ha1_md5="plain:s3cret", ha1_sha256="plain:s3cret", upstream=(account,))
    return Table(INSTALLATION, (replace(ACME, users=(user, *ACME.users[1:])), GLOBEX))


def test_each_plain_secret_is_sealed_at_its_place() -> None:
    table = sealed(plain(), CIPHER)
    acme, user = table.tenants[0], table.tenants[0].users[0]
    for field, algorithm in (("ha1_md5", "MD5"), ("ha1_sha256", "SHA-256")):
        digest = ha1(algorithm, user.extension, acme.primary_domain, "s3cret")
        assert unseal(CIPHER, (acme.id, user.id, field), getattr(user, field)) == digest
    place = (acme.id, user.id, user.upstream[0].connection, "upstream")
    assert unseal(CIPHER, place, user.upstream[0].password) == "at the pbx"
    assert not [problem for problem in validate(table) if problem.is_error]


def test_what_is_sealed_stays_as_it_is() -> None:
    assert sealed(TABLE, CIPHER) == TABLE


def test_the_file_is_printed_without_a_plain_secret(tmp_path: Path) -> None:
    file, out = tmp_path / "table.json", io.StringIO()
    file.write_text(json.dumps(codec.to_document(plain())))
    assert handmade.seal_file(str(file), lambda: CIPHER, out) == 0
    assert "plain:" not in out.getvalue()
    read, problems = codec.from_document(json.loads(out.getvalue()))
    assert read is not None
    assert not problems


def test_without_a_key_a_table_can_be_looked_at_but_no_secret_opened() -> None:
    table = sealed(plain(), NoKey())
    assert not [problem for problem in validate(table) if problem.is_error]
    user = table.tenants[0].users[0]
    with pytest.raises(SealError):
        unseal(CIPHER, (table.tenants[0].id, user.id, "ha1_md5"), user.ha1_md5)


def test_a_plain_secret_is_an_error_to_everything_else() -> None:
    assert {problem.message.partition(";")[0] for problem in validate(plain()) if problem.is_error} == {
        "The secret is not sealed"
    }


def test_no_table_is_named_with_its_first_problem(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text('{"format": 1}')
    with pytest.raises(UnreadableError, match="is no table"):
        handmade.read_sealed(str(file), lambda: CIPHER)
