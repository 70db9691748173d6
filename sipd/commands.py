"""Commands that read a table file or ask a running node, and print for people or programs."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from sipd.config import Address, ConfigError, is_address, parse_address
from sipd.routing import codec
from sipd.routing.decision import Decision, explain
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from sipd.routing.problem import Problem
from sipd.routing.validate import validate

ASK_SECONDS = 10.0
"""For a node to answer."""
UPSTREAM = ("tenant", "user", "connection", "state", "code", "reason", "contact", "since", "next", "expires")
BINDINGS = ("tenant", "user", "contact", "source", "transport", "expires", "user_agent")
CALLS = ("id", "tenant", "direction", "from", "to", "state", "since")
"""Columns, in the order of their printing."""
OK, WITH_ERRORS, UNUSABLE = 0, 1, 2
"""Exit codes."""

Doc = dict[str, Any]


class UnreadableError(Exception):
    """The file, or the node, cannot be read; a sentence."""


def check(path: str, as_json: bool, out: TextIO = sys.stdout) -> int:
    """Print every problem of a table file. Raises UnreadableError."""
    table, problems = read_table(path)
    if table is not None:
        problems = validate(table)
    errors = sum(problem.severity == "error" for problem in problems)
    if as_json:
        print_json({"ok": not errors, "problems": [problem.as_dict() for problem in problems]}, out)
    else:
        for problem in problems:
            print(f"{problem.path or 'table'}: {problem.severity}: {problem.message}", file=out)
        print(f"{errors} errors, {len(problems) - errors} warnings", file=out)
    return WITH_ERRORS if errors else OK


def route(
    path: str,
    source: str,
    transport: str,
    uri: str,
    as_json: bool,
    out: TextIO = sys.stdout,
    at: str = "",
    client: str = "",
) -> int:
    """Print who gets an INVITE from `source` for `uri`, and why, at the time `at` (ISO; "": now).

    `client` is the DNS name of a verified client certificate. Raises UnreadableError.
    """
    host, port = parse_source(source)
    then = parse_time(at)
    names = frozenset((client.lower(),)) if client else frozenset[str]()
    table, problems = read_table(path)
    if table is not None:
        problems = [problem for problem in validate(table) if problem.severity == "error"]
    if table is None or problems:
        raise UnreadableError(f"The table has {len(problems)} errors; see them with: sipd check {path}")
    try:
        decision = explain(compile_table(table), host, port, transport, uri, then, names)
    except ValueError as error:
        raise UnreadableError(f"{error}.") from error
    if as_json:
        print_json(decision_as_dict(decision), out)
    else:
        for step in decision.steps:
            print(f"{'yes' if step.passed else 'no ':3}  {step.rule:14}  {step.sentence}", file=out)
        print(f"=> {verdict(decision)}", file=out)
    return OK if decision.accepted else WITH_ERRORS


def read_table(path: str) -> tuple[Table | None, list[Problem]]:
    """A table from the one-document file, or from standard input for `-`. Raises UnreadableError."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UnreadableError(f"{path} is not UTF-8 text.") from error
    try:
        return codec.from_document(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} is no JSON: {error}.") from error


def parse_source(text: str) -> Address:
    """`192.0.2.1`, `192.0.2.1:5060`, `2001:db8::1` or `[2001:db8::1]:5060`. Raises UnreadableError."""
    bare = text.removeprefix("[").removesuffix("]")
    if is_address(bare):
        return Address(bare, 5060)
    try:
        return parse_address(text, "source")
    except ConfigError as error:
        raise UnreadableError(str(error)) from error


def parse_time(text: str) -> float:
    """Epoch seconds of an ISO 8601 time, in the local zone if it names none; "": now. Raises UnreadableError."""
    if not text:
        return time.time()
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UnreadableError(
            f"{text!r} is no time; write it like 2026-12-24T18:30, or 2026-12-24T18:30+01:00 with its zone."
        ) from error


def decision_as_dict(decision: Decision) -> Doc:
    """For programs; keys that do not apply are null."""
    return {
        "rule": decision.rule,
        "status": decision.status,
        "reason": decision.reason,
        "warning": decision.warning,
        "tenant": decision.tenant.tenant.slug if decision.tenant else None,
        "connection": decision.connection.name if decision.connection else None,
        "user": decision.user.extension if decision.user else None,
        "group": decision.group.extension if decision.group else None,
        "forward": decision.forward or None,
        "steps": [{"rule": s.rule, "passed": s.passed, "sentence": s.sentence} for s in decision.steps],
    }


def verdict(decision: Decision) -> str:
    """The decision as one line."""
    found = decision_as_dict(decision)
    if not decision.accepted:
        warning = f" ({decision.warning})" if decision.warning else ""
        return f"{decision.status} {decision.reason}{warning}, by rule {decision.rule}"
    kind = "user" if found["user"] else "group"
    target = f"{kind} {found[kind]}" if found[kind] else f"forwarded to {found['forward']}"
    return f"{target} of tenant {found['tenant']}, over connection {found['connection']}, by rule {decision.rule}"


# Asking a node


def ask(path: Path, request: Doc) -> Doc:
    """One request over the Unix socket of a node. Raises UnreadableError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ASK_SECONDS)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline()
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"No node answers on {path} ({error}); is sipd running with --control {path}?") from error
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        raise UnreadableError(
            str(answer.get("error", "The node refused.")) if isinstance(answer, dict) else "No answer."
        )
    return answer


def status(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print what a node says of itself."""
    table = f"version {answer['version']}, {answer['hash']}" if answer["hash"] else "none yet"
    since = f" since {when(answer['since'])}" if answer["hash"] else ""
    print(f"table     {table}{since}", file=out)
    print(f"uptime    {answer['uptime']:.0f} s", file=out)
    spool = answer["spool"]
    print(f"spool     {spool['next'] - spool['first']} events, the next is {spool['next']}", file=out)
    if answer["refused_hash"]:
        print(f"refused   {answer['refused_hash']}", file=out)
        for problem in answer["problems"]:
            print(f"          {problem['path']}: {problem['severity']}: {problem['message']}", file=out)
    for name, count in sorted(answer["counters"].items()):
        if count:
            print(f"  {name:32} {count:>12}", file=out)


def registrations(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print upstream registrations, then bindings."""
    print_rows("upstream registrations", UPSTREAM, answer["upstream"], out)
    print_rows("bindings", BINDINGS, answer["bindings"], out)


def calls(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print calls in progress."""
    print_rows("calls", CALLS, answer["calls"], out)


PRINTERS: dict[str, Callable[[Doc], None]] = {"status": status, "registrations": registrations, "calls": calls}
"""By request."""


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Doc], out: TextIO) -> None:
    """A table with aligned columns."""
    lines = [[cell(name, row.get(name)) for name in columns] for row in rows]
    print(f"{len(lines)} {title}", file=out)
    if not lines:
        return
    widths = [max(len(line[column]) for line in [list(columns), *lines]) for column in range(len(columns))]
    for line in [list(columns), *lines]:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), file=out)


def cell(name: str, value: object) -> str:
    """A value as it is printed: times readable, nothing that could move the cursor."""
    if value is None or value == "":
        return "-"
    if name in ("since", "next", "expires") and isinstance(value, int | float):
        return when(value)
    return "".join(character if character.isprintable() else "?" for character in str(value))


def when(epoch: float) -> str:
    """Local time; a dash for never."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch)) if epoch else "-"


def print_json(value: object, out: TextIO) -> None:
    print(json.dumps(value, indent=2), file=out)
