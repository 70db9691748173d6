"""The product's story on real SIP: `make demo`. No root, loopback only, under a minute.

Two organisations sign up in the panel over HTTP, both with extension 101, both at the same PBX address.
The PBX is a stand-in process of the tests that behaves by RFC 3261, and so are the phones. Everything
that is shown is asserted; the table at the end says what was proved, and the exit status says the same.
"""

from __future__ import annotations

import asyncio
import html
import http.cookiejar
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.node import free_port  # noqa: E402  after the path is set
from tests.peers.call import Call  # noqa: E402
from tests.peers.phone import Phone  # noqa: E402
from tests.peers.standin_pbx import StandinPbx  # noqa: E402
from tests.peers.wire import Hop  # noqa: E402

EDGE_HOST, PBX_HOST, STRANGER_HOST, OTHER_PBX_HOST = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
PBX_SECRET = secrets.token_urlsafe(12)
CONNECTION = {"name": "Office PBX", "transport": "udp", "internal_calls": "through_pbx", "enabled": "on"}
"""What all connections of the story have alike."""
PATIENCE = 15.0
"""Seconds that each wait may take."""


class Proof(NamedTuple):
    """One row of the table."""

    tried: str
    happened: str
    proved: bool


@dataclass
class Ledger:
    """What was tried, what happened, whether it is proved."""

    proofs: list[Proof] = field(default_factory=list)

    def note(self, tried: str, happened: str, proved: bool) -> None:
        self.proofs.append(Proof(tried, happened, proved))
        print(f"  {'proved' if proved else 'NOT PROVED':10}  {tried}: {happened}", flush=True)

    async def attempt(self, tried: str, work: Callable[[], Awaitable[tuple[str, bool]]]) -> None:
        """Run one step; an error of any kind is a row that is not proved, and the story goes on."""
        try:
            happened, proved = await work()
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs into the table
            traceback.print_exc()
            happened, proved = f"{type(error).__name__}: {error}", False
        self.note(tried, happened, proved)

    def table(self) -> str:
        rows = [(p.tried, textwrap.shorten(p.happened, 100), "yes" if p.proved else "NO") for p in self.proofs]
        rows.insert(0, ("what was tried", "what happened", "proved"))
        width, wide = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [f"{tried:{width}}  {happened:{wide}}  {proved}" for tried, happened, proved in rows]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    @property
    def all_proved(self) -> bool:
        return bool(self.proofs) and all(proof.proved for proof in self.proofs)


class Page(NamedTuple):
    """What the panel answered."""

    url: str
    status: int
    text: str

    @property
    def words(self) -> str:
        """The text that a person reads."""
        body = re.sub(r"(?s)<(script|style|template)\b.*?</\1>", " ", self.text)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

    def find(self, pattern: str) -> str:
        """The first group of a pattern in the page's source. Raises LookupError with what the page says."""
        found = re.search(pattern, self.text, re.DOTALL)
        if found is None:
            raise LookupError(f"{self.url} ({self.status}) has no {pattern!r}: {self.words[:400]}")
        return html.unescape(found[1])


class Browser:
    """As much of a browser as the panel's forms need: cookies, redirects, the CSRF token of the page."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, path: str) -> Page:
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.base, path)))

    def send(self, path: str, action: str = "", **fields: str | list[str]) -> Page:
        """Open a page and send its form, or another `action`, with these fields."""
        token = self.get(path).find(r'name="csrf_token"[^>]*value="([^"]+)"')
        data = urllib.parse.urlencode({"csrf_token": token, **fields}, doseq=True).encode()
        url = urllib.parse.urljoin(self.base, action or path)
        return self._open(urllib.request.Request(url, data, {"Referer": url}))

    def _open(self, request: urllib.request.Request) -> Page:
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return Page(answer.url, answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            return Page(error.url, error.code, error.read().decode())


class House(Browser):
    """One organisation in the panel, from its sign-up on."""

    def __init__(self, base: str, name: str) -> None:
        super().__init__(base)
        self.name = name
        self.domain = ""
        self.sip_password = ""
        self.connection = ""
        self.place: dict[str, str] = {}
        """The connection's form as it was filled in."""

    def sign_up(self) -> None:
        """Sign up, and confirm the address by the link in the mail of the local outbox."""
        email = f"owner@{self.name}.example"
        password = secrets.token_urlsafe(18)
        self.send("/signup", organisation=self.name.title(), slug=self.name, email=email, password=password)
        mails = self.get("/outbox").text
        mail = next(part for part in mails.split("<article")[1:] if email in part)
        link = re.search(r'href="([^"]*/verify/[^"]+)"', mail)
        if link is None:
            raise LookupError(f"no mail with a link to {email}")
        self.send(html.unescape(link[1]))
        self.domain = self.get(f"/t/{self.name}/").find(r'data-copy="([a-z0-9.-]+\.[a-z]+)"')

    def connect(self, host: str, pbx_port: int, strategy: str = "on_behalf") -> None:
        """A connection to a PBX; `strategy` "none": without registrations."""
        self.place = {
            **CONNECTION, "host": host, "port": str(pbx_port), "sources": host, "strategy": strategy,
            "registrar_domain": f"{self.name}.pbx.example",
        }  # fmt: skip
        page = self.send(f"/t/{self.name}/connections/new", **self.place, expires="600")
        self.connection = page.find(rf"/t/{self.name}/connections/([\w-]+)/mode")

    def add_user(self) -> None:
        """Extension 101, with its account at the PBX; the SIP password is on the next page, once."""
        account = {
            f"upstream-{self.connection}-username": "101",
            f"upstream-{self.connection}-password": PBX_SECRET,
        }
        page = self.send(
            f"/t/{self.name}/users/new", extension="101", name=f"{self.name.title()} reception", enabled="on",
            ring_seconds="60", max_bindings="10", **account,
        )  # fmt: skip
        self.sip_password = page.find(r'data-copy="([^"]+)" aria-label="Copy password"')

    def switch(self, *, on: bool) -> None:
        path = f"/t/{self.name}/connections/{self.connection}"
        self.send(path, f"{path}/mode", on="on" if on else "")

    def change(self, expires: int) -> None:
        """Save another expiry for the connection: something to publish."""
        path = f"/t/{self.name}/connections/{self.connection}"
        self.send(path, **self.place, expires=str(expires))

    def publish(self) -> Page:
        return self.send(f"/t/{self.name}/publish")


class Stage:
    """The whole installation in a folder of its own, and who plays on it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.panel_port, self.sip_port = free_port(EDGE_HOST), free_port(EDGE_HOST)
        self.base = f"http://{EDGE_HOST}:{self.panel_port}"
        self.edge = Hop("udp", EDGE_HOST, self.sip_port)
        self.houses = {name: House(self.base, name) for name in ("acme", "globex")}
        self.phones: dict[str, Phone] = {}
        self.process: subprocess.Popen[bytes] | None = None
        accounts = {f"{name}.pbx.example": {"101": PBX_SECRET} for name in self.houses}
        self.pbx = StandinPbx(accounts, host=PBX_HOST, algorithms=("SHA-256", "MD5"))
        self.stranger = StandinPbx(accounts, host=STRANGER_HOST)

    def start(self) -> None:
        """Panel and sipd as `make run` starts them, on free ports and an empty database."""
        command = [sys.executable, "ops/run.py", f"--panel={EDGE_HOST}:{self.panel_port}"]
        command += [f"--sip={EDGE_HOST}:{self.sip_port}", f"--state={self.state}"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}
        with (self.state / "run.log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 2 * PATIENCE
        while "Ctrl-C" not in (self.state / "run.log").read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.state / "run.log").read_text())
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)


class Story:
    """The steps, in order; each returns what happened and whether that is what should."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self.stage = stage
        self.ledger = ledger
        self.acme, self.globex = stage.houses["acme"], stage.houses["globex"]

    async def tell(self) -> None:
        attempt, pbx = self.ledger.attempt, self.stage.pbx
        await attempt("two organisations sign up over HTTP", self.sign_up)
        await attempt("both connect the same PBX, both add user 101", self.furnish)
        await attempt("multi-tenant mode is switched on and published", self.go_live)
        await attempt("each REGISTER has the tenant's domain in Contact", self.registers)
        await attempt("both phones register at the edge", self.phones)
        for house, other in ((self.acme, self.globex), (self.globex, self.acme)):
            await attempt(
                f"the PBX calls 101 at {house.domain}", lambda house=house, other=other: self.rings(house, other)
            )
        await attempt("a phone calls out through the PBX", self.calls_out)
        uri = f"sip:101@{self.acme.domain}"
        edge = f"{EDGE_HOST}:{self.stage.sip_port}"
        await attempt("a call to the domain of a tenant with another PBX", self.foreign_domain)
        await attempt("a call to an unknown domain", lambda: self.refused(pbx, "sip:101@nowhere.example", 404))
        await attempt("a call to an unknown user", lambda: self.refused(pbx, f"sip:999@{self.acme.domain}", 404))
        await attempt("a call to the bare edge address", lambda: self.refused(pbx, f"sip:101@{edge}", 404, warned=True))
        await attempt("a call from an unknown source", lambda: self.refused(self.stage.stranger, uri, 403))
        await attempt("acme's phone dials globex's 101", self.across)
        await attempt("a hot load in the middle of a call", self.hot_load)
        await attempt("the mode is switched off for both", self.ambiguity)
        await attempt("each tenant sees its own calls in the panel", self.records)

    async def sign_up(self) -> tuple[str, bool]:
        for house in (self.acme, self.globex):
            await asyncio.to_thread(house.sign_up)
        return f"{self.acme.domain} and {self.globex.domain}", self.acme.domain != self.globex.domain

    async def furnish(self) -> tuple[str, bool]:
        for house in (self.acme, self.globex):
            await asyncio.to_thread(house.connect, PBX_HOST, self.stage.pbx.port)
            await asyncio.to_thread(house.add_user)
        return f"PBX {PBX_HOST}:{self.stage.pbx.port}, extension 101 twice", bool(self.globex.sip_password)

    async def go_live(self) -> tuple[str, bool]:
        said = []
        for house in (self.acme, self.globex):
            await asyncio.to_thread(house.switch, on=True)
            page = await asyncio.to_thread(house.publish)
            said.append(live_in(page))
        return "live in " + " and ".join(said), all(said)

    async def registers(self) -> tuple[str, bool]:
        pbx = self.stage.pbx
        await until(lambda: all(pbx.bindings_of(f"101@{name}.pbx.example") for name in self.stage.houses))
        wanted = {f"101@{name}.pbx.example": house.domain for name, house in self.stage.houses.items()}
        sent = [(m.to.uri.aor, m.contact.uri.host) for m in pbx.received("REGISTER")]
        right = all(wanted[aor] == host for aor, host in sent)
        contacts = sorted({m.contact.uri.aor for m in pbx.received("REGISTER")})
        return f"{len(sent)} REGISTERs, Contact {' and '.join(contacts)}", right and len(contacts) == 2

    async def phones(self) -> tuple[str, bool]:
        answers = [(await phone.register()).status for phone in self.stage.phones.values()]
        return " and ".join(map(str, answers)), answers == [200, 200]

    async def rings(self, house: House, other: House) -> tuple[str, bool]:
        right, wrong = self.stage.phones[house.name], self.stage.phones[other.name]
        before = len(right.received("INVITE")), len(wrong.received("INVITE"))
        call = self.stage.pbx.call(f"101@{house.domain}")
        await call.answered()
        rang = len(right.received("INVITE")) - before[0], len(wrong.received("INVITE")) - before[1]
        await call.bye()
        await right.calls[-1].ended()
        return f"{house.name}'s phone rang and answered, {other.name}'s stayed silent", rang == (1, 0)

    async def calls_out(self) -> tuple[str, bool]:
        call = self.stage.phones["acme"].call("9000")
        await call.answered()
        invite = self.stage.pbx.received("INVITE")[-1]
        await call.bye()
        return f"answered; Contact {invite.contact.uri.aor}", invite.contact.uri.host == self.acme.domain

    async def refused(self, pbx: StandinPbx, uri: str, status: int, *, warned: bool = False) -> tuple[str, bool]:
        before = self.invites()
        answer = await pbx.call_uri(uri, self.stage.edge).final()
        warning = answer.get("Warning")
        happened = f"{answer.status} {answer.reason}" + (f", Warning {warning}" if warning else "")
        return happened, answer.status == status and bool(warning) == warned and self.invites() == before

    async def foreign_domain(self) -> tuple[str, bool]:
        """The answer is the same as for an unknown domain, so that nobody can probe for domains."""
        initech = House(self.stage.base, "initech")
        await asyncio.to_thread(initech.sign_up)
        await asyncio.to_thread(initech.connect, OTHER_PBX_HOST, 5060, "none")
        await asyncio.to_thread(initech.add_user)
        await asyncio.to_thread(initech.switch, on=True)
        live = live_in(await asyncio.to_thread(initech.publish))
        happened, proved = await self.refused(self.stage.pbx, f"sip:101@{initech.domain}", 404)
        return happened, proved and bool(live)

    async def across(self) -> tuple[str, bool]:
        """Another tenant is reached like the public, through the PBX, never across; this PBX knows no such domain."""
        before = len(self.stage.phones["globex"].received("INVITE"))
        answer = await self.stage.phones["acme"].call(f"sip:101@{self.globex.domain}").final()
        through = self.stage.pbx.received("INVITE")[-1].uri == f"sip:101@{self.globex.domain}"
        silent = len(self.stage.phones["globex"].received("INVITE")) == before
        happened = f"went to the PBX ({answer.status}), not across; globex's phone stayed silent"
        return happened, through and silent

    async def hot_load(self) -> tuple[str, bool]:
        call: Call = self.stage.pbx.call(f"101@{self.acme.domain}")
        await call.answered()
        await asyncio.to_thread(self.acme.change, 900)
        page = await asyncio.to_thread(self.acme.publish)
        took = live_in(page)
        again = await call.reinvite()
        await call.bye()
        await self.stage.phones["acme"].calls[-1].ended()
        happened = f"live in {took or 'no time that was said'}; the call took a re-INVITE and ended by BYE"
        return happened, bool(took) and again.status == 200

    async def ambiguity(self) -> tuple[str, bool]:
        """The first may switch it off; the second would make the PBX's address ambiguous, and is refused."""
        await asyncio.to_thread(self.acme.switch, on=False)
        first = await asyncio.to_thread(self.acme.publish)
        await asyncio.to_thread(self.globex.switch, on=False)
        second = await asyncio.to_thread(self.globex.publish)
        told = re.search(r"'[\d./:]+' is also where .*?these are\.", second.words)
        sentence = told[0] if told else ""
        still = await self.stage.pbx.call_uri(f"sip:101@{self.globex.domain}", self.stage.edge).final()
        refused = "mode off" in sentence and not live_in(second)
        happened = f"acme's is live, globex's is refused: {sentence.strip()[:96]}…"
        return happened, bool(live_in(first)) and refused and still.status == 200

    async def records(self) -> tuple[str, bool]:
        pages = {}
        end = time.monotonic() + PATIENCE
        while True:
            for name, house in self.stage.houses.items():
                pages[name] = (await asyncio.to_thread(house.get, f"/t/{name}/calls")).words
            seen = {name: self.acme.domain in text or "+4930555000" in text for name, text in pages.items()}
            if all(seen.values()) or time.monotonic() > end:
                break
            await asyncio.sleep(0.3)
        crossed = self.globex.domain in pages["acme"].replace(f"101@{self.globex.domain}", "")
        return "call records of both, none of the other's", all(seen.values()) and not crossed

    def invites(self) -> int:
        return sum(len(phone.received("INVITE")) for phone in self.stage.phones.values())


def live_in(page: Page) -> str:
    """The time to live that the panel tells after a publication, such as `12 ms`; empty when nothing went live."""
    found = re.search(r"Live: version \d+ is enforced, (\d[\d.]* m?s)", page.words)
    return found[1] if found else ""


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen in time")
        await asyncio.sleep(0.05)


async def play(stage: Stage, ledger: Ledger) -> None:
    """Open the peers, and tell the story; the phones come in once their passwords are known."""
    story = Story(stage, ledger)
    async with AsyncExitStack() as peers:
        for pbx in (stage.pbx, stage.stranger):
            await peers.enter_async_context(pbx)
        opening = story.phones

        async def phones() -> tuple[str, bool]:
            for name, house in stage.houses.items():
                phone = Phone("101", house.domain, house.sip_password, stage.edge, on_call="answer")
                stage.phones[name] = await peers.enter_async_context(phone)
            return await opening()

        story.phones = phones  # type: ignore[method-assign]
        await story.tell()


def main() -> int:
    began = time.monotonic()
    state = Path(tempfile.mkdtemp(prefix="tenantry-demo-"))
    stage, ledger = Stage(state), Ledger()
    print("Tenantry's story on real SIP. Panel and sipd start in a folder of their own.", flush=True)
    try:
        stage.start()
        asyncio.run(play(stage, ledger))
    finally:
        stage.stop()
        if ledger.all_proved:
            shutil.rmtree(state, ignore_errors=True)
        else:
            print(f"\nLogs are in {state}.")
    print(f"\n{ledger.table()}\n")
    proved = sum(proof.proved for proof in ledger.proofs)
    print(f"{proved} of {len(ledger.proofs)} proved, in {time.monotonic() - began:.0f} seconds.")
    return 0 if ledger.all_proved else 1


if __name__ == "__main__":
    sys.exit(main())
