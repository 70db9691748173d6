"""How long a restart takes with ten thousand calls, and what it costs to keep them: `make bench`.

Ten thousand calls between a PBX and as many phones are made, and their records stored as the daemon does. Then what a
restart does is timed: read the store, restore, load the table, say what is to be said. And what a call costs to keep:
its records made and written, in batches as under load, with the store on disk.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sipd.daemon import GARBAGE
from sipd.edge import Edge
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from sipd.settings import Settings
from sipd.store import Store
from tests.integration.node import RATES
from tests.unit.core.bench import CIPHER, PBX, START, Bench, End, table, tenant

EXTENSIONS = tuple(str(100 + number) for number in range(100))
"""Of each tenant."""
BATCH = 20
"""Calls whose changes are committed together."""


def call(bench: Bench, pbx: End, domain: str, extension: str, port: int) -> None:
    """A phone registers, the PBX calls it, it answers."""
    phone = bench.end("203.0.113.1", port)
    phone.register(domain, extension, Contact=f"<sip:{extension}@203.0.113.1:{port}>;expires=3600")
    uri = f"sip:{extension}@{domain}"
    pbx.send(pbx.request("INVITE", uri, from_="sip:+4930@pbx.example", to=uri, call_id=f"c{port}-{domain}",
                         Contact=f"<sip:{PBX}:5060>"))  # fmt: skip
    phone.answer(phone.take("INVITE"), 200, "p", body="v=0")
    ok = next(message for message in pbx.taken() if message.status == 200)
    pbx.send(pbx.within(ok, "ACK", ok.cseq.number))
    bench.sent.clear()


def timed(what: str, began: float) -> float:
    """Say how much processor time something took; the time now."""
    now = time.process_time()
    print(f"{what:60}{now - began:8.3f} s")
    return now


def whole(calls: int) -> Table:
    return table(*(tenant(f"t{number}", extensions=EXTENSIONS) for number in range(calls // len(EXTENSIONS))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--restart", type=Path, help="a state directory with the calls: only that part")
    asked = parser.parse_args()
    if asked.restart is not None:
        restart(asked.restart, asked.calls)
        return
    with tempfile.TemporaryDirectory() as folder:
        cost = make(Path(folder), asked.calls)
        print(f"{'records and events of a registration and a call, written':60}{cost * 1e6:8.0f} us")
        subprocess.run([sys.executable, __file__, "--calls", str(asked.calls), "--restart", folder], check=True)


def make(folder: Path, calls: int) -> float:
    """Calls, and their records in the store; seconds of processor time for each that the latter took."""
    bench = Bench(whole(calls), settings())
    pbx, store, spent = bench.end(PBX), Store(folder / "state.db", {}), 0.0
    for number in range(calls):
        tenant_number, user = divmod(number, len(EXTENSIONS))
        call(bench, pbx, f"t{tenant_number}.example", EXTENSIONS[user], 10_000 + number)
        if number % BATCH == BATCH - 1:
            began = time.process_time()
            store.commit(bench.edge.take_changes(), bench.edge.take_events())
            spent += time.process_time() - began
    store.close()
    return spent / calls


def settings() -> Settings:
    return replace(Bench().settings, **dict.fromkeys(RATES, 1_000_000))


def restart(folder: Path, calls: int) -> None:
    """As the daemon does it, with its garbage collection."""
    compiled, now = compile_table(whole(calls)), START + 10
    gc.set_threshold(*GARBAGE)
    gc.freeze()
    began = step = time.process_time()
    store, edge = Store(folder / "state.db", {}), Edge(settings(), CIPHER, os.urandom)
    changes = store.changes()
    step = timed(f"read the store: {len(changes)} records", step)
    edge.restore(changes, now)
    step = timed("restore", step)
    edge.load(compiled, now)
    step = timed(f"load: {len(edge.calls(None, now))} calls, {len(edge.registrar)} bindings", step)
    store.commit(edge.take_changes(), edge.take_events())
    edge.datagrams_to_send()
    timed("commit and send", step)
    timed("in all", began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{'peak memory, with the table':60}{peak:8} MiB")
    store.close()
    if len(edge.calls(None, now)) != calls or edge.faults:
        raise RuntimeError("some are lost")


if __name__ == "__main__":
    main()
