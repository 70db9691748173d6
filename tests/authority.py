"""A certificate authority of the tests, and the files of certificates that it signs."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from sipd.net.tls import Pair


class Authority:
    """Writes what it signs into a directory."""

    def __init__(self, path: Path, name: str = "ca") -> None:
        self._path = path
        self._ca = trustme.CA(organization_name=name)
        self.file = path / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def pair(self, *names: str, file: str = "") -> Pair:
        """A certificate for these DNS names and addresses; chain and key in one file, replaced if it is there."""
        path = self._path / f"{file or names[0].replace('*', 'any')}.pem"
        fresh = path.with_suffix(".new")
        self._ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(fresh))
        fresh.replace(path)
        return Pair(path, path)

    def client(self, own: Pair | None = None) -> ssl.SSLContext:
        """For a client that believes this authority."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own is not None:
            context.load_cert_chain(own.chain, own.key)
        return context
