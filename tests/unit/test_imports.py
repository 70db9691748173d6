"""The import rules of docs/architecture.md, held by reading the imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("sipd", "panel")
NOT_IN_THE_CORE = frozenset(
    "asyncio concurrent multiprocessing os pathlib random secrets selectors socket sqlite3 ssl subprocess threading "
    "time".split()
)
"""Clock, randomness, sockets and disk come to the core as arguments."""
SHELL = frozenset(
    f"sipd.{name}"
    for name in (
        "__main__ chores clock commands config control core daemon disk drain faults grounds handmade ladder listening "
        "logs notify pcap plain reload replay requests salvage scrape spool store tables traces tuning vitals watch"
    ).split()
)
"""What else is directly in sipd is core, and held to its rules: a new file is core until it is named here."""


class Module(NamedTuple):
    """One file, by its dotted name."""

    name: str
    imports: frozenset[str]
    """Dotted names, as far as they are modules; names taken out of a module are not kept."""
    tree: ast.Module

    def __str__(self) -> str:
        return self.name


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imported(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if is_module(inner) else source


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for top in OURS:
        for path in sorted((ROOT / top).rglob("*.py")):
            tree = ast.parse(path.read_text(), str(path))
            name = dotted(path)
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            found.append(Module(name, frozenset(imported(tree, package)), tree))
    return tuple(found)


def within(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(top + ".") for top in tops)


def under(*tops: str) -> list[Module]:
    return [module for module in modules() if within(module.name, *tops)]


def ours(module: Module) -> set[str]:
    return {name for name in module.imports if within(name, *OURS)}


def foreign(module: Module) -> set[str]:
    """Top names of imported packages that are neither ours nor of the standard library."""
    return {name.split(".")[0] for name in module.imports} - set(OURS) - sys.stdlib_module_names


def core_files() -> list[Module]:
    return [m for m in under("sipd") if m.name.count(".") == 1 and m.name not in SHELL and not is_room(m.name)]


def is_room(name: str) -> bool:
    return (ROOT.joinpath(*name.split(".")) / "__init__.py").exists()


def feature_files(kind: str) -> list[Module]:
    """`panel.<feature>...<kind>`, and `<kind>_something` beside it where one file became two."""
    return [m for m in under("panel") if m.name.count(".") >= 2 and m.name.split(".")[-1].split("_")[0] == kind]


ROOMS = {
    "sipd.routing": ("sipd.routing",),
    "sipd.message": ("sipd.message",),
    "sipd.transaction": ("sipd.transaction", "sipd.message", "sipd.flow", "sipd.timers"),
    "sipd.net": ("sipd.net", "sipd.flow", "sipd.message.framing", "sipd.message.errors"),
}
"""Room of sipd -> what of ours it may import."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_sipd_imports_only_what_is_below_it(room: str) -> None:
    wrong = {m.name: bad for m in under(room) if (bad := {n for n in ours(m) if not within(n, *ROOMS[room])})}
    assert not wrong


def test_core_files_import_no_shell() -> None:
    shell = (*SHELL, "sipd.net")
    wrong = {m.name: bad for m in core_files() if (bad := {n for n in ours(m) if within(n, *shell)})}
    assert not wrong


def test_core_has_no_clock_no_socket_and_no_disk() -> None:
    pure = [*core_files(), *under("sipd.message", "sipd.transaction", "sipd.routing")]
    wrong = {m.name: bad for m in pure if (bad := {n.split(".")[0] for n in m.imports} & NOT_IN_THE_CORE)}
    assert not wrong


PACKAGES = {
    "sipd.net.names": {"dns"},
    "sipd.net.tls": {"cryptography"},
    "sipd.net.websocket": {"websockets"},
}
"""File of sipd that is no shell -> what it needs beyond the standard library (docs/decisions/0006)."""


def test_core_and_net_need_the_standard_library_but_for_protocols_of_others() -> None:
    core_and_net = [m for m in under("sipd") if m.name not in SHELL]
    wrong = {m.name: bad for m in core_and_net if (bad := foreign(m) - PACKAGES.get(m.name, set()))}
    assert not wrong


def test_shell_of_sipd_needs_cryptography_and_for_metrics_the_library_of_prometheus() -> None:
    allowed = {"sipd.scrape": {"prometheus_client"}}
    shell = [m for m in under("sipd") if m.name in SHELL]
    wrong = {m.name: bad for m in shell if (bad := foreign(m) - {"cryptography"} - allowed.get(m.name, set()))}
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    wrong = [m.name for m in modules() if m.imports & {"sipd.__main__", "panel.cli"} and m.name != "panel.app"]
    assert not wrong


def test_sipd_imports_nothing_of_the_panel() -> None:
    assert not {m.name: bad for m in under("sipd") if (bad := {n for n in ours(m) if within(n, "panel")})}


def test_panel_imports_only_the_contract_of_sipd() -> None:
    wrong = {
        m.name: bad
        for m in under("panel")
        if (bad := {n for n in ours(m) if within(n, "sipd") and not within(n, "sipd.routing")})
    }
    assert not wrong


PACKAGE_OF = {"dns": "dnspython", "argon2": "argon2-cffi", "pydantic_core": "pydantic"}
"""Where an import is not called like the package that brings it."""


def test_every_imported_package_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[^\w-]", wanted)[0] for wanted in project["dependencies"]}
    wrong = {
        m.name: bad
        for m in modules()
        if (bad := {name for name in foreign(m) if PACKAGE_OF.get(name, name.replace("_", "-")) not in asked})
    }
    assert not wrong


def test_models_are_tables_and_nothing_else() -> None:
    wrong = {
        m.name: bad
        for m in under("panel.models")
        if (bad := {n for n in ours(m) if not within(n, "panel.models", "sipd.routing")})
    }
    assert not wrong


def test_views_know_forms_and_services_but_no_database_library() -> None:
    wrong = {m.name: bad for m in feature_files("views") if (bad := foreign(m) & {"sqlmodel", "sqlalchemy"})}
    assert not wrong


def test_views_do_not_import_the_views_of_another_feature() -> None:
    views = {m.name for m in feature_files("views")}
    wrong = {
        m.name: bad
        for m in feature_files("views")
        if (bad := {n for n in ours(m) & views if n.split(".")[1] != m.name.split(".")[1]})
    }
    assert not wrong


def test_services_know_no_web() -> None:
    wrong = {m.name: bad for m in feature_files("service") if (bad := foreign(m) & {"flask", "flask_login", "wtforms"})}
    assert not wrong


BEHIND_THE_PAGES = frozenset(["panel.publishing.delivery", "panel.publishing.events"])
"""They talk to nodes on their own account, with sessions of their own, and commit those."""


def test_only_services_commit() -> None:
    services = {m.name for m in feature_files("service")} | BEHIND_THE_PAGES
    wrong = {m.name for m in under("panel") if m.name not in services and commits(m.tree)}
    assert not wrong


def commits(tree: ast.Module) -> bool:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(called, ast.Attribute) and called.attr == "commit" for called in calls)


def test_the_kamailio_renderer_is_pure() -> None:
    renderer = under("panel.publishing.kamailio")
    wrong = {
        m.name: bad
        for m in renderer
        if (bad := {n for n in ours(m) if not within(n, "sipd.routing", "panel.publishing.kamailio")})
        or (bad := foreign(m) - {"jinja2"})
    }
    assert not wrong


def test_the_architecture_names_every_file_of_sipd() -> None:
    """Whoever adds a file says in docs/architecture.md which room it is in."""
    rooms = (ROOT / "docs" / "architecture.md").read_text()
    unnamed = [m.name for m in under("sipd") if m.name.count(".") == 1 and not names(rooms, m.name.split(".")[1])]
    assert not unnamed


def names(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w.]){word}(?!\w)", text) is not None
