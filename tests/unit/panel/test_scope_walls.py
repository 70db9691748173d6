"""What the session's guards cannot see is searched for in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PANEL = Path(__file__).resolve().parents[3] / "panel"
PLUMBING = {"db.py", "migrate.py", "cli.py"}
"""These hold the engine, for what is done before there are sessions."""
ROUND_THE_WALL = {
    "text",
    "literal_column",
    "connection",
    "connect",
    "exec_driver_sql",
    "bulk_save_objects",
    "bulk_insert_mappings",
}
"""Calls that speak to the database past the session's guards."""
FILES = sorted(path for path in PANEL.rglob("*.py") if path.name not in PLUMBING)


def called(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, node.lineno
            elif isinstance(node.func, ast.Name):
                yield node.func.id, node.lineno


def imports_database(tree: ast.AST) -> bool:
    modules = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return bool(modules & {"sqlalchemy", "sqlmodel"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PANEL)))
def test_nothing_goes_round_the_wall(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if not imports_database(tree):
        return
    assert [(name, line) for name, line in called(tree) if name in ROUND_THE_WALL] == []


def test_sessions_are_made_in_one_place() -> None:
    makers = {
        str(path.relative_to(PANEL))
        for path in PANEL.rglob("*.py")
        if any(
            name in ("Session", "GuardedSession", "sessionmaker", "create_engine")
            for name, _ in called(ast.parse(path.read_text()))
        )
    }
    assert makers == {"db.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PANEL)))
def test_every_wide_scope_says_why(path: Path) -> None:
    """The reason is written where the scope is opened, so that a search for the name finds it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("system_scope", "provider_scope")
        ):
            reason = node.args[-1]
            assert isinstance(reason, ast.Constant | ast.JoinedStr | ast.Name), ast.dump(reason)
