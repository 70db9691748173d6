"""Commands that read a table file or ask a running node, and print for people or programs."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from sipd import ladder, readiness
from sipd import replay as replaying
from sipd.config import Address, ConfigError, is_address, parse_address
from sipd.plain import NoKey, sealed
from sipd.routing import codec
from sipd.routing.decision import Decision, explain
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from sipd.routing.problem import Problem
from sipd.routing.validate import validate

ASK_SECONDS = 10.0
"""For a node to answer."""
UPSTREAM = ("tenant", "user", "connection", "state", "code", "reason", "at", "since", "next", "expires")
BINDINGS = ("tenant", "user", "contact", "source", "transport", "expires", "user_agent")
SUBSCRIPTIONS = ("tenant", "user", "connection", "event", "from", "to", "state", "expires")
CALLS = ("since", "state", "tenant", "direction", "from", "to", "id")
BANS = ("source", "reason", "times", "since", "until")
TRACES = ("since", "kind", "from", "to", "code", "rule", "id")
"""Columns, in the order of their printing."""
MIN_COLUMNS, DEFAULT_COLUMNS, MAX_COLUMNS = 80, 110, 160
"""Of the terminal."""
MIN_CELL = 6
"""A column is not cut below that."""
WHOLE = ("since", "code", "id")
"""Columns that are not cut: an id is there to be given to the next command."""
ID_CELL = 24
"""Of a longer id, which is some peer's Call-ID, the beginning does: `sipd trace` takes that too."""
NAMES = {"tenant": "tenant_slug", "user": "extension", "connection": "connection_name"}
"""What people are shown instead of an id, where the node knows it."""
OK, WITH_ERRORS, UNUSABLE = 0, 1, 2
"""Exit codes."""

Doc = dict[str, Any]


class UnreadableError(Exception):
    """The file, or the node, cannot be read; a sentence."""


class RefusedError(UnreadableError):
    """The node answers that it cannot do this; its sentence."""


def check(path: str, as_json: bool, out: TextIO = sys.stdout) -> int:
    """Print every problem of a table file. Raises UnreadableError."""
    table, problems = read_table(path)
    if table is not None:
        problems = validate(sealed(table, NoKey()))
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
    table = good_table(path)
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


def replay(path: str, table_path: str, edge: str, *, explained: bool, compare: bool, as_json: bool) -> int:
    """Run a capture against a table. Raises UnreadableError."""
    table = good_table(table_path)
    if edge and not is_address(edge):
        raise UnreadableError(f'edge "{edge}" is no IP address.')
    try:
        if Path(path).stat().st_size > replaying.FILE_BYTES:
            raise UnreadableError(f"{path} has more than {replaying.FILE_BYTES} bytes; cut it, as with editcap -c.")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    report = replaying.run(data, table, edge)
    if as_json:
        print_json(replaying.as_dict(report), sys.stdout)
    else:
        for line in replaying.lines(report, explained=explained):
            print(line)
    return WITH_ERRORS if compare and report.differing else OK


def good_table(path: str) -> Table:
    """A table without errors from its file. Raises UnreadableError."""
    table, problems = read_table(path)
    if table is not None:
        table = sealed(table, NoKey())
        problems = [problem for problem in validate(table) if problem.severity == "error"]
    if table is None or problems:
        raise UnreadableError(f"The table has {len(problems)} errors; see them with: sipd check {path}")
    return table


# Asking a node


def ask(path: Path, request: Doc) -> Doc:
    """One request over the Unix socket of a node. Raises UnreadableError, or RefusedError when the node says no."""
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
    if not isinstance(answer, dict):
        raise UnreadableError("No answer.")
    if answer.get("ok") is not True:
        raise RefusedError(str(answer.get("error", "The node refused.")))
    return answer


def status(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print what a node says of itself."""
    table = f"version {answer['version']}, {answer['hash']}" if answer["hash"] else "none yet"
    since = f" since {when(answer['since'])}" if answer["hash"] else ""
    print(f"node      {cell('node', answer.get('node'))}, release {cell('release', answer.get('release'))}", file=out)
    print(f"table     {table}{since}", file=out)
    if "ready" in answer:
        print(f"ready     {'yes' if answer['ready'] else 'no: ' + '; '.join(why_not_ready(answer))}", file=out)
    print(f"uptime    {lasting(answer['uptime'])}", file=out)
    for listener in answer.get("listeners", ()):
        print(f"listens   {cell('listener', listener)}", file=out)
    for relay in answer.get("media", ()):
        state = f"{'up' if relay['up'] else 'DOWN'} since {when(relay['since'])}, {relay['sessions']} sessions"
        print(f"media     {cell('media', relay['address'])} {state}", file=out)
    if answer.get("drain", {}).get("draining"):
        print(f"calls     {draining(answer['drain'])}", file=out)
    if answer.get("store", {}).get("state") == "failing":
        print(f"store     {failing(answer['store'])}", file=out)
    spool = answer["spool"]
    print(f"spool     {spool['next'] - spool['first']} events, the next is {spool['next']}", file=out)
    if "memory" in answer:
        lag, memory = answer["loop_lag"], answer["memory"]
        print(f"memory    {size(memory['now'])}, at most {size(memory['peak'])}", file=out)
        print(f"lag       {lag['last'] * 1000:.1f} ms, at worst {lag['worst'] * 1000:.1f} ms in a minute", file=out)
        print(f"traces    {size(answer['traces_on_disk'])} on disk", file=out)
        print(f"limits    {answer['limits']['digest']} (sipd status --json lists them)", file=out)
    if answer["refused_hash"]:
        print(f"refused   {answer['refused_hash']}", file=out)
        for problem in answer["problems"]:
            print(f"          {problem['path']}: {problem['severity']}: {problem['message']}", file=out)
    print_numbers(answer.get("vitals", {}), out)
    print_numbers(answer["counters"], out)


def draining(state: Doc) -> str:
    """What `drain` and `resume` answer, in words."""
    if not state["draining"]:
        return f"New calls are taken; {state['calls']} are in progress."
    end = "" if state["left"] is None else f", what is left ends in {lasting(state['left'])}"
    return f"New calls are refused; {state['calls']} are in progress{end}."


def failing(store: Doc) -> str:
    """Of a store that cannot write: since when, why, and what waits."""
    waiting = store["waiting"]
    why = "".join(c if c.isprintable() else "?" for c in store["error"])
    waits = f"{waiting['changes']} changes and {waiting['events']} events wait"
    return f"cannot write since {when(store['since'])}: {why}; {waits}"


def why_not_ready(answer: Doc) -> list[str]:
    """A sentence for each reason in a status; a word that this release does not know stands for itself."""
    return [readiness.SENTENCES.get(word, cell("reason", word)) for word in answer["not_ready"]]


def healthy(answer: Doc, as_json: bool, out: TextIO = sys.stdout) -> int:
    """Print whether a node is ready, of its status, and return it as an exit code: for containers and scripts."""
    if as_json:
        print_json(readiness.answer(answer), out)
    else:
        print("ready" if answer["ready"] else "\n".join(why_not_ready(answer)), file=out)
    return OK if answer["ready"] else WITH_ERRORS


def print_numbers(numbers: Doc, out: TextIO) -> None:
    """Names and numbers in two columns; zeros are left out."""
    for name, count in sorted(numbers.items()):
        if count:
            print(f"  {cell('name', name):32} {count:>12}", file=out)


def registrations(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print upstream registrations, bindings, and who watches what."""
    print_rows("upstream registrations", UPSTREAM, answer["upstream"], out)
    print_rows("bindings", BINDINGS, answer["bindings"], out)
    print_rows("subscriptions", SUBSCRIPTIONS, answer.get("subscriptions", ()), out)


def calls(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print calls in progress."""
    print_rows("calls", CALLS, answer["calls"], out)


def bans(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print the sources that get no answer for a while."""
    print_rows("bans", BANS, answer["bans"], out)


def traces(answer: Doc, out: TextIO = sys.stdout) -> None:
    """Print what is known of traces, one a line."""
    rows = [{**row, "kind": row["direction"] or row["kind"]} for row in answer["traces"]]
    print_rows("traces", TRACES, rows, out)
    if not answer["tracing"]:
        print("Tracing is off in this node: it runs with --trace off.", file=out)


def trace(answer: Doc, full: bool, out: TextIO = sys.stdout) -> None:
    """Print one trace as a ladder."""
    for line in ladder.lines(answer["trace"], width(), full=full):
        print(line.rstrip(), file=out)


PRINTERS: dict[str, Callable[[Doc], None]] = {
    "status": status, "registrations": registrations, "calls": calls, "bans": bans,
}  # fmt: skip
"""By request."""


def parse_since(text: str, now: float) -> float:
    """`30s`, `10m`, `2h`, `3d` before now, or a local time such as `2026-01-31 08:00`. Raises UnreadableError."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if seconds and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 8:
        return max(0.0, now - int(text[:-1]) * seconds)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UnreadableError(f'since "{text}" is no time; write it like 10m, 2h or "2026-01-31 08:00".') from error


def width() -> int:
    """Columns to print in: the terminal's within reason."""
    return min(MAX_COLUMNS, max(MIN_COLUMNS, shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns))


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Doc], out: TextIO) -> None:
    """A table with aligned columns, no wider than the terminal: the widest columns are cut."""
    lines = [[cell(name, row.get(NAMES.get(name, ""), row.get(name))) for name in columns] for row in rows]
    print(f"{len(lines)} {title}", file=out)
    if not lines:
        return
    widths = [max(len(line[column]) for line in [list(columns), *lines]) for column in range(len(columns))]
    room = width() - 2 * len(columns)
    whole = [number for number, name in enumerate(columns) if name in WHOLE]
    while sum(widths) > room:
        widest = max((n for n in range(len(columns)) if n not in whole), key=widths.__getitem__)
        if widths[widest] <= MIN_CELL:
            break
        widths[widest] -= 1
    for line in [list(columns), *lines]:
        cells = (fitted(text, length) for text, length in zip(line, widths, strict=True))
        print("  " + "  ".join(cells).rstrip(), file=out)


def fitted(text: str, length: int) -> str:
    return text.ljust(length) if len(text) <= length else text[: length - 1] + "~"


def cell(name: str, value: object) -> str:
    """A value as it is printed: times readable, nothing that could move the cursor."""
    if value is None or value == "":
        return "-"
    if name in ("from", "to"):
        value = str(value).removeprefix("sip:")
    if name in ("since", "next", "expires") and isinstance(value, int | float):
        return short(value)
    if name == "id":
        return fitted(ladder.legible(value), min(ID_CELL, len(str(value))))
    return ladder.legible(value)


def when(epoch: float) -> str:
    """Local time; a dash for never."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch)) if epoch else "-"


def short(epoch: float) -> str:
    """Local time for a column: the time of today, or the day and the minute."""
    if not epoch:
        return "-"
    then = time.localtime(epoch)
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%m-%d %H:%M", then)


def lasting(seconds: float) -> str:
    """`2 d 3 h`, `5 min`, `12 s`."""
    for unit, length, smaller in (("d", 86_400, "h"), ("h", 3600, "min"), ("min", 60, "s")):
        if seconds >= length:
            rest = int(seconds % length) // {"h": 3600, "min": 60, "s": 1}[smaller]
            return f"{int(seconds // length)} {unit} {rest} {smaller}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """`12.3 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def print_json(value: object, out: TextIO) -> None:
    print(json.dumps(value, indent=2), file=out)
