"""A tenant and the phones of its users, for tests of what a call does there."""

from __future__ import annotations

from dataclasses import replace

from sipd.message.message import Message
from sipd.routing.model import Group, Member, Tenant, User
from tests.unit.core.bench import PBX, Bench, End, table, tenant
from tests.unit.core.talk import assert_nothing_left

EXTENSIONS = ("101", "102", "103")


def acme(
    of_users: dict[str, dict[str, object]] | None = None,
    of_connection: dict[str, object] | None = None,
    **more: object,
) -> Tenant:
    """acme with 101, 102 and 103; `of_users`: fields of users by extension."""
    made = tenant("acme", extensions=EXTENSIONS, of_connection=of_connection)
    users = tuple(replace(user, **(of_users or {}).get(user.extension, {})) for user in made.users)  # type: ignore[arg-type]
    return replace(made, users=users, **more)  # type: ignore[arg-type]


def relayed_acme(*known: str, mode: bool = True, **of_connection: object) -> Tenant:
    """acme whose users have their accounts, `pbx-<extension>`, in their phones; but for `known` ones, which have a
    password at the edge and no account at the PBX."""
    made = acme()
    fields: dict[str, object] = {"strategy": "relay", "multi_tenant": mode, **of_connection}
    link = replace(made.connections[0], **fields)  # type: ignore[arg-type]
    users = tuple(replace(u, upstream=()) if u.extension in known else _in_its_phone(u) for u in made.users)
    return replace(made, users=users, connections=(link,))


def _in_its_phone(user: User) -> User:
    account = replace(user.upstream[0], username=f"pbx-{user.extension}", password="")
    return replace(user, ha1_md5="", ha1_sha256="", upstream=(account,))


def group(strategy: str, *extensions: str, extension: str = "600", **more: object) -> Group:
    """A ring group of acme's users, in this order."""
    members = tuple(Member(place, f"acme-{member}") for place, member in enumerate(extensions or EXTENSIONS))
    made = Group(f"group-{extension}", extension, "Sales", True, strategy, members)
    return replace(made, **more)  # type: ignore[arg-type]


class House:
    """The edge, the PBX of acme, and its phones."""

    def __init__(self, of: Tenant | None = None) -> None:
        self.bench = Bench(table(of or acme()))
        self.pbx = self.bench.end(PBX)
        self._calls = 0
        self.asked = ""

    def phone(self, extension: str = "101", place: int = 0, q: str = "") -> End:
        """A registered phone of a user; `place` tells several of one user apart."""
        phone = self.bench.end(f"203.0.{place}.{extension}", 5062)
        contact = f"<sip:{extension}@10.0.{place}.9:5062>;expires=600" + (f";q={q}" if q else "")
        phone.register(extension=extension, Contact=contact)
        return phone

    def phones(self, *extensions: str) -> list[End]:
        return [self.phone(extension) for extension in extensions or EXTENSIONS]

    def rings(self, to: str = "101", from_: str = "sip:+4930@pbx.example", **headers: str) -> None:
        """The PBX calls, and wants to hear of forwards."""
        self._calls += 1
        uri = f"sip:{to}@acme.example"
        headers.setdefault("Contact", f"<sip:{PBX}:5060>")
        headers.setdefault("Supported", "histinfo")
        self.asked = self.pbx.request("INVITE", uri, from_=from_, to=uri, call_id=f"c{self._calls}", **headers)
        self.pbx.send(self.asked)

    def gives_up(self) -> None:
        """The PBX cancels its call."""
        self.pbx.send(self.asked.replace("INVITE", "CANCEL"))

    def told(self) -> list[int]:
        """The answers that the PBX got since the last look, without 100."""
        return [message.status for message in self.pbx.taken() if message.status > 100]

    def passes(self, seconds: float) -> None:
        self.bench.pass_time(seconds)

    def refusals(self) -> list[object]:
        """The rules of the refusals since the last look."""
        return [event["rule"] for event in self.bench.events("refused")]

    def assert_nothing_left(self) -> None:
        self.bench.pass_time(400)
        assert_nothing_left(self.bench)


def values(message: Message, name: str) -> list[str]:
    return message.split(name)


def kinds(messages: list[Message]) -> list[int | str]:
    return [message.status or message.method for message in messages]


def refuse(phone: End, status: int, **headers: str) -> Message:
    """The phone rings, and is answered with a failure; the INVITE."""
    invite = phone.take("INVITE")
    phone.answer(invite, status, f"t{status}", **headers)
    phone.take("ACK")
    return invite
