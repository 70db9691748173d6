"""Parts and publications in the database. Both never change once written, so what was read may be remembered."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlmodel import Session, col, select

from panel.models import Part, Publication
from sipd.routing import codec, model, validate

V = TypeVar("V")

CHUNK = 500
"""Parts per query."""
MANIFESTS_KEPT = 4
CONTRIBUTIONS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Live:
    """The newest publication, as far as everything but its page needs it."""

    version: int
    hash: str
    installation: str
    """Hash of the part."""
    tenants: dict[str, str]
    """Hash of the part by tenant id; not to be changed."""

    @property
    def manifest(self) -> dict[str, Any]:
        return {"format": model.FORMAT, "installation": self.installation, "tenants": self.tenants}


class Memory(Generic[V]):
    """Remembers the newest values by hash; for threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        with self._lock:
            return self._values.get(key)

    def put(self, key: str, value: V) -> V:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value


_manifests: Memory[Live] = Memory(MANIFESTS_KEPT)
_contributions: Memory[validate.Contribution] = Memory(CONTRIBUTIONS_KEPT)


def live(session: Session) -> Live | None:
    """The newest publication; None before the first."""
    newest = select(Publication.version, Publication.hash).order_by(col(Publication.version).desc()).limit(1)
    found = session.exec(newest).first()
    if found is None:
        return None
    version, name = found
    return _manifests.get(f"{version} {name}") or _manifests.put(f"{version} {name}", _live(session, version))


def _live(session: Session, version: int) -> Live:
    publication = session.exec(select(Publication).where(Publication.version == version)).one()
    return of(publication)


def of(publication: Publication) -> Live:
    """A publication's manifest, taken apart."""
    manifest = publication.manifest
    return Live(publication.version, publication.hash, manifest["installation"], manifest["tenants"])


def documents(session: Session, hashes: Collection[str]) -> dict[str, Any]:
    """Parts as documents, by hash; those that are not there are left out."""
    return {part.hash: json.loads(part.body) for part in _parts(session, hashes)}


def tenants(session: Session, hashes: Collection[str]) -> dict[str, model.Tenant]:
    """Tenants' parts by hash."""
    return {name: codec.decode_part(model.Tenant, doc) for name, doc in documents(session, hashes).items()}


def tenant(session: Session, name: str | None) -> model.Tenant | None:
    """One tenant's part; None for no name."""
    return tenants(session, [name]).get(name) if name else None


def installation(session: Session, name: str | None) -> model.Installation | None:
    """An installation's part; None for no name."""
    found = documents(session, [name]) if name else {}
    return codec.decode_part(model.Installation, found[name]) if name in found else None


def contributions(session: Session, parts: dict[str, str]) -> dict[str, validate.Contribution]:
    """What each tenant puts into the index of checks across tenants, by tenant id; `parts` is as in a manifest."""
    known = {name: _contributions.get(name) for name in parts.values()}
    unknown = [name for name, contribution in known.items() if contribution is None]
    for chunk in _chunks(unknown):
        for name, part in tenants(session, chunk).items():
            known[name] = _contributions.put(name, validate.contribution(part))
    return {tenant_id: found for tenant_id, name in parts.items() if (found := known[name]) is not None}


def keep(session: Session, part: model.Installation | model.Tenant, like: str = "") -> str:
    """Store a part unless it is there; its hash. With `like`, another part's hash, it counts as made when that was:
    what was saved since is not in it either."""
    doc = codec.encode_part(part)
    name = codec.part_hash(doc)
    if session.get(Part, name) is None:
        is_tenant = isinstance(part, model.Tenant)
        kind = "tenant" if is_tenant else "installation"
        body = codec.canonical(doc).decode()
        row = Part(hash=name, kind=kind, tenant_id=part.id if isinstance(part, model.Tenant) else None, body=body)
        older = session.get(Part, like) if like else None
        if older is not None:
            row.created_at = older.created_at
        session.add(row)
    return name


def part_name(part: model.Installation | model.Tenant) -> str:
    """The hash that a part would be stored under."""
    return codec.part_hash(codec.encode_part(part))


def fetcher(session: Callable[[], Any]) -> Callable[[Collection[str]], dict[str, Any]]:
    """For `NodeClient.load`: reads parts in a session of its own, so that none is open while a node is spoken to."""

    def fetch(hashes: Collection[str]) -> dict[str, Any]:
        with session() as opened:
            return documents(opened, hashes)

    return fetch


def _parts(session: Session, hashes: Collection[str]) -> Iterator[Part]:
    for chunk in _chunks(hashes):
        yield from session.exec(select(Part).where(col(Part.hash).in_(chunk)))


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(set(values))
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
