"""Hot load: decode, validate and compile away from the event loop, then swap one reference.

A table with errors is refused, the one before stays, and the bad hash is remembered across restarts.
Parts that the node has are known by their hash: only new ones are sent, decoded and compiled.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar, cast

from sipd.net.threads import DaemonThreads
from sipd.routing import codec
from sipd.routing.lookup import EMPTY, Compiled, compile_table
from sipd.routing.model import Installation, Table, Tenant
from sipd.routing.problem import Problem
from sipd.routing.validate import (
    Index,
    check_across,
    check_blocked,
    check_installation,
    check_tenant,
    contribution,
    suits_alike,
    validate,
)
from sipd.tables import Refused, StoredTable, TableStore

log = logging.getLogger("sipd.reload")

EVENT_PROBLEMS = 20
"""Problems that go into one `table.refused` event; the answer holds all up to the next limit."""
ANSWER_PROBLEMS = 1000

Doc = dict[str, Any]
Parts = Mapping[str, Installation | Tenant]
Kind = TypeVar("Kind", Installation, Tenant)


class TableError(Exception):
    """The table itself is at fault: `problems` say how. To be remembered by its hash."""

    def __init__(self, name: str, problems: list[Doc]) -> None:
        super().__init__(f"the table has {len(problems)} problems")
        self.name = name
        self.problems = problems


class LoadError(Exception):
    """The request is at fault, not the table that it names; a sentence."""


class MissingPartsError(Exception):
    """The manifest names parts that are neither here nor in the request."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"{len(names)} parts are missing")
        self.names = names


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table ready to be swapped in."""

    compiled: Compiled
    manifest: bytes
    parts: Parts
    """All parts, by hash."""
    fresh: Mapping[str, bytes]
    """The parts that were not known before, as canonical bytes."""
    warnings: list[Doc]


@dataclass(slots=True)
class Running:
    """What the node runs."""

    compiled: Compiled
    version: int = 0
    """The panel's number; 0: no table yet."""
    since: float = 0.0
    """Epoch seconds."""
    parts: Parts = field(default_factory=dict)
    ms: float = 0.0
    """From the first byte of it to its enforcement; 0: it is from before the start."""

    @property
    def hash(self) -> str:
        """Of the running table; empty before the first."""
        return self.compiled.hash if self.parts else ""


class Reloader:
    """Loads tables, one at a time. `swap` makes a compiled table the one that calls are decided with.

    `note` takes an event's kind and detail.
    """

    def __init__(
        self,
        store: TableStore,
        release: str,
        own_hosts: frozenset[str],
        swap: Callable[[Compiled], None],
        note: Callable[[str, Doc], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._release = release
        self._own_hosts = own_hosts
        self._swap = swap
        self._note = note
        self._clock = clock
        self._lock = asyncio.Lock()
        self._recheck = Recheck()
        self._threads = DaemonThreads(1, "reload")
        self.running = Running(compile_table(EMPTY, edge_hosts=own_hosts))
        self.refused: Refused | None = None
        self.stale = False
        """Whether the newest table that came was refused, and an older one stays."""
        self._kept = b""
        """Manifest of the table that is on disk."""
        self._manifest = b""
        """Of the one that runs."""

    @property
    def unstored(self) -> bool:
        """Whether a restart would not find the table that runs."""
        return self._manifest != self._kept

    def restore(self) -> None:
        """The last good table from disk, before anything runs; blocks. Without one, the node knows nobody."""
        try:
            self.refused = self._store.refused()
        except Exception as error:  # noqa: BLE001 - whatever a spoilt file holds, it must not keep us from starting
            log.error("last refused table cannot be read error=%r", str(error))
        try:
            stored = self._store.read()
            if stored is None:
                return
            same = stored.release == self._release  # it has passed our checks
            problems_of = nothing_wrong if same else self._recheck.problems
            prepared = self._prepare(json.loads(stored.manifest), read_parts(stored.parts), problems_of, stored.parts)
        except TableError as error:
            log.error("last table is refused, starting without one hash=%s problems=%r", error.name, error.problems[:3])
        except Exception as error:  # noqa: BLE001 - as above; the panel sends it again
            log.error("last table cannot be read, starting without one error=%r", str(error))
        else:
            self.running = Running(prepared.compiled, stored.version, stored.since, prepared.parts)
            self._manifest = self._kept = prepared.manifest
            log.info("last table restored hash=%s version=%d", prepared.compiled.hash, stored.version)

    async def load(self, version: int, manifest: object, parts: Mapping[str, object], started: float) -> Doc:
        """The answer to a load request; `started` is the loop's time of its first byte."""
        async with self._lock:
            return await self._load(version, manifest, parts, started)

    def close(self) -> None:
        self._threads.shutdown()

    async def _load(self, version: int, manifest: object, parts: Mapping[str, object], started: float) -> Doc:
        loop = asyncio.get_running_loop()
        try:
            prepared = await loop.run_in_executor(self._threads, self._prepare, manifest, parts, self._recheck.problems)
        except MissingPartsError as missing:
            return {"ok": False, "error": "The node lacks parts of this table; send it again with them.",
                    "missing": missing.names}  # fmt: skip
        except LoadError as error:
            return {"ok": False, "error": str(error)}
        except TableError as error:
            return await self._refuse(version, error)
        now = self._clock()
        self._swap(prepared.compiled)
        self.stale = False
        ms = round((loop.time() - started) * 1000, 3)
        name = prepared.compiled.hash
        since = self.running.since if name == self.running.hash else now
        if not self.running.parts:  # nobody was served so far: what there is now, stays
            gc.freeze()
        self.running = Running(prepared.compiled, version, since, prepared.parts, ms)
        log.info("table loaded hash=%s version=%d ms=%.1f fresh_parts=%d", name, version, ms, len(prepared.fresh))
        self._note("table.loaded", {"hash": name, "version": version, "ms": ms})
        self._manifest = prepared.manifest
        await self._keep(prepared.fresh)
        return {"ok": True, "version": version, "hash": name, "ms": ms, "problems": prepared.warnings}

    def _prepare(
        self,
        manifest: object,
        parts: Mapping[str, object],
        problems_of: Callable[[Table], list[Problem]],
        written: Mapping[str, bytes] | None = None,
    ) -> Prepared:
        """Without the cycle collector: it would look at each value of the table again and again, and find nothing."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            return prepare(manifest, parts, self.running, self._own_hosts, problems_of, self._known_bad, written)
        finally:
            if enabled:
                gc.enable()

    async def keep_again(self) -> None:
        """Try once more to store the table that runs."""
        async with self._lock:
            if self.unstored:
                await self._keep({})

    async def _keep(self, fresh: Mapping[str, bytes]) -> None:
        """Store the running table; `fresh` are bytes of parts that may not be stored yet.

        Disk trouble leaves it enforced; `keep_again` is for later, and the panel sends it again should that fail.
        """
        running, manifest = self.running, self._manifest
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._store_all, running, manifest, fresh)
        except (OSError, sqlite3.Error, LookupError) as error:
            log.error("table enforced but not stored hash=%s error=%r", running.hash, str(error))
        else:
            self._kept = manifest

    def _store_all(self, running: Running, manifest: bytes, fresh: Mapping[str, bytes]) -> None:
        """Raises OSError, sqlite3.Error, or LookupError when a part cannot be written as it came."""
        self._store.open_again()
        names = set(running.parts)
        parts = {**fresh, **{n: _bytes_of(n, running.parts[n]) for n in self._store.missing(names - fresh.keys())}}
        self._store.keep(StoredTable(running.version, running.since, self._release, manifest, parts), names)

    async def _refuse(self, version: int, error: TableError) -> Doc:
        problems, self.stale = error.problems[:ANSWER_PROBLEMS], True
        if self._known_bad(error.name) is None:
            self.refused = Refused(error.name, self._release, problems)
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._store.remember_refused, self.refused
                )
            except (OSError, sqlite3.Error) as trouble:
                log.error("refused hash not stored error=%r", str(trouble))
        log.warning("table refused hash=%s version=%d problems=%d", error.name, version, len(error.problems))
        detail = {"hash": error.name, "version": version, "problems": problems[:EVENT_PROBLEMS]}
        self._note("table.refused", detail)
        return {"ok": False, "error": f"The table has errors: {_first_error(problems)}", "problems": problems}

    def _known_bad(self, name: str) -> list[Doc] | None:
        """The problems for which this release has refused this very table before."""
        refused = self.refused
        if refused is not None and (refused.hash, refused.release) == (name, self._release):
            return refused.problems
        return None


class Recheck:
    """Validation that costs what changed: a tenant that passed before, and is the same value, is not looked at again.

    Remembers what it accepted last. For one thread at a time.
    """

    def __init__(self) -> None:
        self._installation: Installation | None = None
        self._tenants: dict[str, Tenant] = {}
        self._warnings: dict[str, list[Problem]] = {}
        """By tenant; "" is the installation."""
        self._blocked: list[Problem] = []
        """Of all tenants, about networks that the installation blocks."""
        self._index = Index()

    def problems(self, table: Table) -> list[Problem]:
        """As `validate` gives them, apart from their order. A table with errors is not remembered."""
        installation, before = table.installation, self._installation
        if before is None or not suits_alike(installation, before):
            return self._anew(table)
        tenants = {tenant.id: tenant for tenant in table.tenants}
        changed = [tenant for key, tenant in tenants.items() if self._tenants.get(key) is not tenant]
        gone = self._tenants.keys() - tenants.keys()
        found = {tenant.id: check_tenant(tenant, installation) for tenant in changed}
        own = self._warnings.get("", []) if installation is before else check_installation(installation)
        for key in gone:
            self._index.remove(key)
        for tenant in changed:
            self._index.put(contribution(tenant))
        across = check_across(self._index, found)
        if any(problem.is_error for problems in (own, across, *found.values()) for problem in problems):
            self._undo([*found, *gone])
            return validate(table)
        self._blocked = self._still_blocked(installation, found.keys(), gone)
        self._installation, self._tenants = installation, tenants
        self._warnings = {key: old for key, old in self._warnings.items() if key not in gone} | found | {"": own}
        return [problem for problems in self._warnings.values() for problem in problems] + across + self._blocked

    def _still_blocked(self, installation: Installation, changed: Set[str], gone: Set[str]) -> list[Problem]:
        """Cheap for all tenants, where the networks are others; else of those that changed."""
        if installation is not self._installation:
            return check_blocked(self._index, installation)
        kept = [problem for problem in self._blocked if problem.where[0] not in changed | gone]
        return kept + check_blocked(self._index, installation, changed)

    def _anew(self, table: Table) -> list[Problem]:
        """Check everything, and remember it if it may go live."""
        problems = validate(table)
        if any(problem.is_error for problem in problems):
            return problems
        self._installation = table.installation
        self._tenants = {tenant.id: tenant for tenant in table.tenants}
        self._index = Index(contribution(tenant) for tenant in table.tenants)
        self._blocked = check_blocked(self._index, table.installation)
        self._warnings = {}
        blocked = set(self._blocked)
        for problem in problems:
            if problem not in blocked:
                self._warnings.setdefault(problem.where[0] if problem.where else "", []).append(problem)
        return problems

    def _undo(self, keys: list[str]) -> None:
        """Put back into the index what was accepted."""
        for key in keys:
            if key in self._tenants:
                self._index.put(contribution(self._tenants[key]))
            else:
                self._index.remove(key)


def prepare(
    manifest: object,
    parts: Mapping[str, object],
    running: Running,
    own_hosts: frozenset[str],
    problems_of: Callable[[Table], list[Problem]],
    known_bad: Callable[[str], list[Doc] | None],
    bytes_of: Mapping[str, bytes] | None = None,
) -> Prepared:
    """Everything before the swap; `known_bad` gives the problems for which a hash was refused before. `bytes_of` has
    the bytes of parts whose names were compared with them already.

    Raises TableError, LoadError, MissingPartsError.
    """
    try:
        written = codec.canonical(manifest)
        name = codec.part_hash(manifest)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"The manifest cannot be written as canonical JSON: {error}.") from error
    bad = known_bad(name)
    if bad is not None:
        raise TableError(name, bad)
    try:
        names = codec.part_names(manifest)
        missing = [part for part in names if part not in running.parts and part not in parts]
        if missing:
            raise MissingPartsError(missing)
        unknown = [part for part in names if part not in running.parts]
        fresh = {p: bytes_of[p] if bytes_of is not None else _checked_bytes(p, parts[p]) for p in unknown}
        table, decoded = _assemble(cast("Doc", manifest), parts, running.parts)
    except codec.FormatError as error:
        raise TableError(name, [problem.as_dict() for problem in error.problems]) from error
    problems = problems_of(table)
    if any(problem.is_error for problem in problems):
        raise TableError(name, [problem.as_dict() for problem in problems])
    compiled = compile_table(table, running.compiled, name=name, edge_hosts=own_hosts)
    return Prepared(compiled, written, decoded, fresh, [p.as_dict() for p in problems[:ANSWER_PROBLEMS]])


def nothing_wrong(table: Table) -> list[Problem]:
    """For a table that this release has accepted before."""
    return []


def read_parts(stored: Mapping[str, bytes]) -> dict[str, object]:
    """Parts from disk, those that have the bytes that their names say. Raises ValueError."""
    return {name: json.loads(body) for name, body in stored.items() if hashlib.sha256(body).hexdigest() == name}


def _bytes_of(name: str, part: Installation | Tenant) -> bytes:
    """A decoded part as it came. Raises LookupError for one of another release, which left fields out or had more."""
    written = codec.canonical(codec.encode_part(part))
    if hashlib.sha256(written).hexdigest() != name:
        raise LookupError(f"part {name} came in another form")
    return written


def _checked_bytes(name: str, doc: object) -> bytes:
    try:
        if codec.part_hash(doc) == name:
            return codec.canonical(doc)
    except (ValueError, RecursionError):
        pass
    raise LoadError(f"The part {name} has other bytes than its name says; send the table again.")


def _assemble(manifest: Doc, parts: Mapping[str, object], known: Parts) -> tuple[Table, Parts]:
    """The table, and its parts by hash; a known part is the same object as before.

    Raises FormatError with every problem.
    """
    problems: list[Problem] = []
    decoded: dict[str, Installation | Tenant] = {}
    installation = _part(Installation, manifest["installation"], parts, known, decoded, problems)
    tenants: list[Tenant] = []
    for tenant_id, name in manifest["tenants"].items():
        tenant = _part(Tenant, name, parts, known, decoded, problems)
        if tenant is not None and tenant.id != tenant_id:
            problems.append(Problem(f"parts[{name}]", f"The part is listed for tenant {tenant_id!r} but is another's."))
        elif tenant is not None:
            tenants.append(tenant)
    if problems or installation is None:
        raise codec.FormatError(problems)
    return Table(installation, tuple(sorted(tenants, key=attrgetter("id")))), decoded


def _part(
    kind: type[Kind],
    name: str,
    parts: Mapping[str, object],
    known: Parts,
    decoded: dict[str, Installation | Tenant],
    problems: list[Problem],
) -> Kind | None:
    part = known.get(name)
    if isinstance(part, kind):
        decoded[name] = part
        return part
    if part is not None:
        problems.append(Problem(f"parts[{name}]", "The part is listed as what it is not."))
        return None
    try:
        decoded[name] = fresh = codec.decode_part(kind, parts.get(name))
    except codec.FormatError as error:
        problems += error.problems
        return None
    return fresh


def _first_error(problems: list[Doc]) -> str:
    for problem in problems:
        if problem.get("severity") == "error":
            return f"{problem.get('path')}: {problem.get('message')}"
    return "see its problems."
