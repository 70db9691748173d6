"""The table as JSON: canonical bytes, their names, and strict reading.

One walker serves all classes of the model: each field's type is turned into a `_Shape` once, which
writes values as JSON and reads them back. Reading never raises on what it is given; it collects problems.
"""

from __future__ import annotations

import hashlib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

from sipd.routing.model import (
    FORMAT,
    Alternate,
    Connection,
    Group,
    Guard,
    Installation,
    Member,
    Number,
    Opening,
    OutboundRule,
    Schedule,
    Table,
    Tenant,
    UpstreamAccount,
    User,
)
from sipd.routing.problem import Problem, Spot, show

Part = TypeVar("Part", Installation, Tenant)
Doc = dict[str, object]

MAX_INTEGER = 2**53 - 1
"""Beyond, JSON readers differ (RFC 8259 section 6)."""
_HASH = re.compile(r"[0-9a-f]{64}")


class FormatError(ValueError):
    """The document is no table of this format."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{p.path}: {p.message}" for p in problems[:3]))
        self.problems = problems


class Encoded(NamedTuple):
    """A table as it is stored and sent."""

    hash: str
    """Of the manifest: the table's name."""
    manifest: Doc
    parts: dict[str, Doc]


def canonical(doc: object) -> bytes:
    """The one way to write `doc` as bytes: keys sorted, no spaces, UTF-8."""
    return json.dumps(doc, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def part_hash(doc: object) -> str:
    """The name of a part or manifest."""
    return hashlib.sha256(canonical(doc)).hexdigest()


def encode_part(part: Installation | Tenant) -> Doc:
    """One part as JSON values, collections in canonical order."""
    return _record(type(part)).write(part)


def encode(table: Table) -> Encoded:
    """The whole table. Raises ValueError if two tenants have the same id, which has no encoding."""
    installation = encode_part(table.installation)
    name = part_hash(installation)
    parts = {name: installation}
    tenants: dict[str, str] = {}
    for tenant in table.tenants:
        if tenant.id in tenants:
            raise ValueError(f"two tenants have the id {tenant.id!r}")
        doc = encode_part(tenant)
        tenants[tenant.id] = part_hash(doc)
        parts[tenants[tenant.id]] = doc
    manifest: Doc = {"format": FORMAT, "installation": name, "tenants": dict(sorted(tenants.items()))}
    return Encoded(part_hash(manifest), manifest, parts)


def decode_part(kind: type[Part], doc: object) -> Part:
    """One part alone. Raises `FormatError`."""
    problems: list[Problem] = []
    part = _record(kind).read(doc, _spot_of_part(kind, doc), "", problems)
    if problems:
        raise FormatError(problems)
    return typing.cast("Part", part)


def part_names(manifest: object) -> list[str]:
    """The names of all parts that a manifest lists, the installation's first. Raises `FormatError`."""
    problems = list(_manifest_problems(manifest))
    if problems:
        raise FormatError(problems)
    listed = typing.cast("dict[str, Any]", manifest)
    return [listed["installation"], *listed["tenants"].values()]


def decode(manifest: object, parts: Mapping[str, object]) -> Table:
    """The table that `encode` made. Raises `FormatError`, also for a part that is not what its name says."""
    installation, *names = part_names(manifest)
    tenant_ids = typing.cast("dict[str, dict[str, str]]", manifest)["tenants"]
    problems: list[Problem] = []
    first = _decode_named(Installation, installation, parts, problems)
    tenants = []
    for tenant_id, name in zip(tenant_ids, names, strict=True):
        tenant = _decode_named(Tenant, name, parts, problems)
        if tenant is not None and tenant.id != tenant_id:
            other = f"is listed for tenant {show(tenant_id)} but belongs to {show(tenant.id)}"
            problems.append(_part_problem(name, other))
        elif tenant is not None:
            tenants.append(tenant)
    if problems or first is None:
        raise FormatError(problems)
    return Table(first, tuple(sorted(tenants, key=attrgetter("id"))))


def to_document(table: Table) -> Doc:
    """The whole table as one document, for files."""
    return _record(_Document).write(_Document(FORMAT, table.installation, table.tenants))


def from_document(doc: object) -> tuple[Table | None, list[Problem]]:
    """Read what `to_document` made, or a person wrote. Never raises; without problems there is a table."""
    if isinstance(doc, dict) and "format" in doc and not _is_format(doc["format"]):
        return None, [_wrong_format(doc["format"])]
    problems: list[Problem] = []
    read = _record(_Document).read(doc, Spot(), "", problems)
    if problems or not isinstance(read, _Document):
        return None, problems
    return Table(read.installation, read.tenants), []


def ordered(table: Table) -> Table:
    """The table in canonical order, as decoding gives it."""
    return typing.cast("Table", _record(Table).ordered(table))


@dataclass(frozen=True, slots=True)
class _Document:
    """A table in one file."""

    format: int
    installation: Installation
    tenants: tuple[Tenant, ...] = ()


# Manifest -----------------------------------------------------------------------------------------


def _is_format(value: object) -> bool:
    return type(value) is int and value == FORMAT


def _wrong_format(value: object) -> Problem:
    return Spot().at("format").error(f"The format is {show(value)}; this release reads format {FORMAT}. Convert it.")


def _manifest_problems(manifest: object) -> typing.Iterator[Problem]:
    spot = Spot()
    if not isinstance(manifest, dict):
        yield spot.at("manifest").error(f"A manifest is an object, not {show(manifest)}.")
        return
    yield from _key_problems(manifest, ("format", "installation", "tenants"), spot)
    if "format" in manifest and not _is_format(manifest["format"]):
        yield _wrong_format(manifest["format"])
    if "installation" in manifest and not _is_hash(manifest["installation"]):
        yield spot.at("installation").error(_no_hash(manifest["installation"]))
    tenants = manifest.get("tenants", {})
    if not isinstance(tenants, dict):
        yield spot.at("tenants").error(f"This is an object of tenant ids and part names, not {show(tenants)}.")
        return
    for index, (tenant_id, name) in enumerate(tenants.items()):
        if not _is_hash(name):
            yield spot.of_tenant(tenant_id, index, tenant_id).error(_no_hash(name))


def _key_problems(doc: dict[Any, Any], names: tuple[str, ...], spot: Spot) -> typing.Iterator[Problem]:
    for name in names:
        if name not in doc:
            yield spot.at(name).error("This is missing; add it.")
    for key in doc:
        if key not in names:
            yield spot.error(f"{show(key)} is no key here; remove it.")


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _no_hash(value: object) -> str:
    return f"{show(value)} is no part's name; it takes a sha256 of 64 lower-case hexadecimal digits."


def _part_problem(name: str, what: str) -> Problem:
    return Problem(f"parts[{name}]", f"The part {what}; publish the table again.")


def _decode_named(kind: type[Part], name: str, parts: Mapping[str, object], problems: list[Problem]) -> Part | None:
    if name not in parts:
        problems.append(_part_problem(name, "is missing"))
        return None
    try:
        part = decode_part(kind, parts[name])
    except FormatError as error:
        problems += error.problems
        return None
    if part_hash(parts[name]) != name:
        problems.append(_part_problem(name, "has other bytes than its name says"))
        return None
    return part


def _spot_of_part(kind: type[Any], doc: object) -> Spot:
    if kind is Installation:
        return Spot("installation", collection="installation")
    given = doc if isinstance(doc, dict) else {}
    return Spot().of_tenant(given.get("slug"), 0, given.get("id"))


# The walker ---------------------------------------------------------------------------------------


class _Shape(Protocol):
    """How one type is written and read. `name` is the field that `value` was found in."""

    def write(self, value: Any) -> Any: ...

    def ordered(self, value: Any) -> Any: ...

    def read(self, value: object, spot: Spot, name: str, problems: list[Problem]) -> object: ...


class _Scalar:
    """Text, whole number, switch; perhaps null."""

    WORDS: typing.ClassVar[dict[type, str]] = {str: "text", int: "a whole number", bool: "true or false"}

    def __init__(self, kind: type, optional: bool = False) -> None:
        self.kind = kind
        self.optional = optional

    def write(self, value: Any) -> Any:
        return value

    ordered = write

    def read(self, value: object, spot: Spot, name: str, problems: list[Problem]) -> object:
        if type(value) is self.kind:
            if isinstance(value, str):
                if value.isascii() or _is_unicode(value):
                    return value
                problems.append(spot.at(name).error(f"{show(value)} is not valid Unicode; write it anew."))
            elif not isinstance(value, int) or -MAX_INTEGER <= value <= MAX_INTEGER:
                return value
            else:
                problems.append(spot.at(name).error(f"{show(value)} is out of range; the limit is {MAX_INTEGER}."))
        elif value is not None or not self.optional:
            null = " or null" if self.optional else ""
            problems.append(spot.at(name).error(f"This takes {self.WORDS[self.kind]}{null}, not {show(value)}."))
        return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


class _Texts:
    """A list of texts, in alphabetical order."""

    def __init__(self) -> None:
        self.item = _Scalar(str)

    def write(self, value: Any) -> Any:
        return sorted(value)

    def ordered(self, value: Any) -> Any:
        return tuple(sorted(value))

    def read(self, value: object, spot: Spot, name: str, problems: list[Problem]) -> object:
        if not isinstance(value, list):
            problems.append(spot.at(name).error(f"This takes a list of texts, not {show(value)}."))
            return None
        read = [self.item.read(text, spot, f"{name}[{index}]", problems) for index, text in enumerate(value)]
        return tuple(sorted(typing.cast("list[str]", read))) if None not in read else None


class _Collection:
    """Records, in the order of their keys."""

    LABELS: typing.ClassVar[dict[type, str]] = {
        Tenant: "slug",
        User: "extension",
        Connection: "id",
        Number: "number",
        OutboundRule: "id",
        UpstreamAccount: "connection",
        Group: "extension",
        Member: "user",
        Schedule: "id",
        Opening: "opens",
        Alternate: "host",
        Guard: "prefix",
    }
    KEYS: typing.ClassVar[dict[type, Callable[[Any], Any]]] = {
        OutboundRule: attrgetter("position", "id"),
        UpstreamAccount: attrgetter("connection"),
        Member: attrgetter("position", "user"),
        Opening: attrgetter("day", "opens", "closes"),
        Alternate: attrgetter("position", "host", "port"),
    }
    PARTS: typing.ClassVar[tuple[type, ...]] = (UpstreamAccount, Member, Opening, Alternate)
    """Records without an id of their own: named by label in the path of what they belong to."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.item = _record(kind)
        self.label = self.LABELS[kind]
        self.key = self.KEYS.get(kind, attrgetter("id"))

    def write(self, value: Any) -> Any:
        return [self.item.write(record) for record in sorted(value, key=self.key)]

    def ordered(self, value: Any) -> Any:
        return tuple([self.item.ordered(record) for record in sorted(value, key=self.key)])

    def read(self, value: object, spot: Spot, name: str, problems: list[Problem]) -> object:
        if not isinstance(value, list):
            problems.append(spot.at(name).error(f"This takes a list of objects, not {show(value)}."))
            return None
        read = [
            self.item.read(doc, self._spot(doc, spot, name, index), "", problems) for index, doc in enumerate(value)
        ]
        return tuple(sorted(read, key=self.key)) if None not in read else None

    def _spot(self, doc: object, spot: Spot, name: str, index: int) -> Spot:
        given = doc if isinstance(doc, dict) else {}
        label = given.get(self.label)
        if self.kind is Tenant:
            return spot.of_tenant(label, index, given.get("id"))
        if self.kind in self.PARTS:
            return spot.entry(name, label, index)
        return spot.of_item(name, label, index, given.get("id"))


class _Record:
    """A class of the model: an object whose keys are the fields."""

    def __init__(self, kind: type) -> None:
        hints = typing.get_type_hints(kind)
        self.kind = kind
        # Sorted, so that the documents have the order of their canonical bytes.
        self.shapes = {f.name: _shape(hints[f.name]) for f in sorted(fields(kind), key=attrgetter("name"))}
        self.needed = {f.name for f in fields(kind) if f.default is MISSING}

    def write(self, value: Any) -> dict[str, Any]:
        return {name: shape.write(getattr(value, name)) for name, shape in self.shapes.items()}

    def ordered(self, value: Any) -> Any:
        return self.kind(**{name: shape.ordered(getattr(value, name)) for name, shape in self.shapes.items()})

    def read(self, value: object, spot: Spot, name: str, problems: list[Problem]) -> object:
        if name:
            spot = spot.at(name)
        if not isinstance(value, dict):
            problems.append(spot.error(f"This takes an object, not {show(value)}."))
            return None
        before = len(problems)
        read: dict[str, Any] = {}
        for key, item in value.items():
            shape = self.shapes.get(key)
            if shape is None:
                problems.append(spot.error(f"{show(key)} is no key here; remove it."))
            else:
                read[key] = shape.read(item, spot, key, problems)
        problems += [spot.at(key).error("This is missing; add it.") for key in sorted(self.needed - read.keys())]
        return self.kind(**read) if len(problems) == before else None


_records: dict[type, _Record] = {}


def _record(kind: type) -> _Record:
    """The shape of a class; made once."""
    if kind not in _records:
        _records[kind] = _Record(kind)
    return _records[kind]


def _shape(hint: Any) -> _Shape:
    """The shape of a field's type: text, number, switch, `int | None`, a class, or a tuple of one of these."""
    if typing.get_origin(hint) is tuple:
        (item, _) = typing.get_args(hint)
        return _Texts() if item is str else _Collection(item)
    if isinstance(hint, types.UnionType):
        (item,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return _Scalar(item, optional=True)
    return _Scalar(hint) if hint in _Scalar.WORDS else _record(hint)
