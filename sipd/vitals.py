"""How a node feels: the lag of its event loop, its memory, the limits that it holds itself to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import resource
import time
from collections import deque
from pathlib import Path
from typing import Any

from sipd import control, spool, traces
from sipd.message.scanner import DEFAULT
from sipd.net import limits as streams
from sipd.routing.lookup import Compiled
from sipd.trace import TraceLimits
from sipd.transaction.layer import MAX_SERVER_TRANSACTIONS

STARTED = time.time()
"""When this was imported: as good as the start of the process."""
LAG_MEMORY = 60
"""Ticks whose lag is remembered."""

Doc = dict[str, Any]


class Lag:
    """How late the event loop runs what is due: the last tick, and the worst of the last minute."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=LAG_MEMORY)

    def note(self, seconds: float) -> None:
        self._last.append(max(0.0, seconds))

    def as_dict(self) -> Doc:
        """Seconds."""
        last = self._last[-1] if self._last else 0.0
        return {"last": round(last, 6), "worst": round(max(self._last, default=0.0), 6)}


def memory() -> Doc:
    """Bytes in memory now, and at most so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return {"now": peak, "peak": peak}
    now = pages * resource.getpagesize()
    return {"now": now, "peak": max(now, peak)}  # the kernel brings its peak up to date later


def limits(compiled: Compiled, keeping: traces.Keeping, connections: int) -> Doc:
    """The limits in force, by name, and a digest of them, to compare nodes by. None: no limit.

    `connections` is what the system lets us have of streams."""
    installation = compiled.installation.limits
    found: Doc = {
        "message.bytes": DEFAULT.message,
        "message.lines": DEFAULT.lines,
        "message.line": DEFAULT.line,
        "transactions": MAX_SERVER_TRANSACTIONS,
        "installation.calls": installation.calls,
        "installation.calls_per_second": installation.calls_per_second,
        "spool.events": spool.EVENT_LIMIT,
        "control.connections": control.CONNECTION_LIMIT,
        "traces.megabytes": keeping.megabytes,
        "traces.days": keeping.days,
    }
    found |= {f"trace.{name}": value for name, value in dataclasses.asdict(TraceLimits()).items()}
    found |= {f"streams.{n.lower()}": v for n, v in vars(streams).items() if n.isupper() and isinstance(v, int | float)}
    found["streams.connection_limit"] = connections
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]
    return {"digest": digest, "in_force": found}


def process() -> dict[str, float]:
    """What Prometheus calls a process's own metrics, by name."""
    used, (files, _) = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "process_resident_memory_bytes": memory()["now"],
        "process_cpu_seconds_total": round(used.ru_utime + used.ru_stime, 3),
        "process_open_fds": open_files(),
        "process_max_fds": files if files != resource.RLIM_INFINITY else math.inf,
        "process_start_time_seconds": STARTED,
    }


def open_files() -> int:
    """How many file descriptors are open. Linux from 6.2 on says it as the folder's size: with thousands of
    connections, listing them takes milliseconds."""
    folder = Path("/proc/self/fd")
    try:
        return folder.stat().st_size or sum(1 for _ in folder.iterdir())
    except OSError:
        return 0
