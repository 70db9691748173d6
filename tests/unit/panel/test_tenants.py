"""The provider's pages on tenants, and support inside of one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlmodel import select

from panel.models import Account, SupportSession, Tenant
from panel.models.base import utc_now
from panel.paging import PAGE_ROWS
from tests.cast import PLATFORM, Browser, Cast

LIST = "/provider/tenants"
REASON = "Looks into ticket 12"


def path(cast: Cast, deed: str = "", slug: str = "acme") -> str:
    return f"{LIST}/{cast.tenant_id(slug)}{deed}"


def give_role(cast: Cast, name: str, role: str | None) -> None:
    with cast.everything() as session:
        session.exec(select(Account).where(Account.email == f"{name}@{PLATFORM}")).one().provider_role = role
        session.commit()


def test_the_list_shows_all(root: Browser) -> None:
    page = root.get(LIST).text
    assert all(name in page for name in ("Acme Ltd", "globex.tenantry.example", "1–2 of 2"))


def test_htmx_gets_the_rows_alone(root: Browser) -> None:
    rows = root.htmx(LIST)
    assert "<html" not in rows.text
    assert "Acme Ltd" in rows.text
    assert "HX-Request" in rows.vary


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=glob", ["globex"]),
        ("q=ACME", ["acme"]),
        ("q=tenantry.example", ["acme", "globex"]),
        ("q=%25", []),
        ("q=_", []),
        ("q=x' OR 1=1", []),
        ("status=suspended", []),
        ("status=nonsense", ["acme", "globex"]),
        ("sort=-name", ["globex", "acme"]),
        ("sort=name; DROP TABLE tenants", ["acme", "globex"]),
        ("page=99", ["acme", "globex"]),
        ("page=-1", ["acme", "globex"]),
        ("page=x&q=", ["acme", "globex"]),
    ],
)
def test_search_sort_and_page(root: Browser, query: str, found: list[str]) -> None:
    answer = root.htmx(f"{LIST}?{query}")
    assert answer.status_code == 200
    places = {slug: answer.text.find(f"{slug}.tenantry.example</div>") for slug in ("acme", "globex")}
    assert sorted((slug for slug in places if places[slug] >= 0), key=places.__getitem__) == found


def test_pages_are_walked_and_cost_the_same(cast: Cast, root: Browser) -> None:
    with cast.everything() as session:
        session.add_all(Tenant(slug=f"t{number}", name=f"Tenant {number:03}") for number in range(PAGE_ROWS * 3))
        session.commit()
    statements: list[str] = []
    event.listen(cast.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    page = root.htmx(f"{LIST}?page=2").text
    assert "26–50 of 77" in page
    assert len(statements) <= 9
    assert "page=3" in page
    assert "page=1" in page


def test_no_tenants_yet_and_none_found(bare: Cast, root: Browser) -> None:
    assert "No tenant matches" in root.get(f"{LIST}?q=nothing").text


def test_detail(cast: Cast, root: Browser) -> None:
    cast.add_connection("acme", name="Main office")
    page = root.get(path(cast)).text
    assert all(text in page for text in ("acme.tenantry.example", f"bob@{PLATFORM}", "read-only", "Main office"))
    assert "carol@" not in page


def test_detail_of_none(root: Browser) -> None:
    assert root.get(f"{LIST}/unknown").status_code == 404


def test_suspend_and_resume(cast: Cast, root: Browser, alice: Browser) -> None:
    answer = root.post(path(cast, "/suspend"), data={"reason": "Bills unpaid"})
    assert (answer.status_code, answer.location) == (303, path(cast))
    assert "Bills unpaid" in root.get(path(cast)).text
    assert "suspended" in alice.get("/t/acme/").text
    assert "1–1 of 1" in root.htmx(f"{LIST}?status=suspended").text
    assert root.post(path(cast, "/suspend"), data={"reason": "Once more"}).status_code == 422
    assert root.post(path(cast, "/resume")).status_code == 303
    assert "Bills unpaid" not in root.get(path(cast)).text.split("Recent activity")[0]
    entry = next(entry for entry in cast.audit() if entry.action == "tenant.suspended")
    assert (entry.before["status"], entry.after["status"]) == ("active", "suspended")
    assert entry.after["suspended_reason"] == "Bills unpaid"


def test_resuming_what_is_not_suspended_changes_nothing(cast: Cast, root: Browser) -> None:
    assert root.post(path(cast, "/resume")).status_code == 303
    assert "tenant.resumed" not in cast.actions()


@pytest.mark.parametrize("reason", ["", "x", "y" * 501, "with\x07bell"])
def test_a_reason_is_needed(cast: Cast, root: Browser, reason: str) -> None:
    for deed in ("/suspend", "/enter"):
        assert root.post(path(cast, deed), data={"reason": reason}).status_code == 422


def test_support_enters_is_seen_and_leaves(cast: Cast, root: Browser, alice: Browser) -> None:
    assert root.get("/t/acme/").status_code == 403
    entered = root.post(path(cast, "/enter"), data={"reason": REASON, "minutes": "15"})
    assert (entered.status_code, entered.location) == (303, "/t/acme/")
    assert REASON in root.get("/t/acme/").text
    assert "You are here as support" in root.get("/t/acme/activity").text
    assert "You are here as support" not in alice.get("/t/acme/").text
    log = alice.get("/t/acme/activity").text
    assert f"root@{PLATFORM}" in log
    assert REASON in log
    assert root.post("/t/acme/support/leave").location == path(cast)
    assert root.get("/t/acme/").status_code == 403
    assert [entry.support for entry in cast.audit() if entry.action.startswith("support.")] == [True, True]


def test_support_in_one_tenant_is_not_support_in_another(cast: Cast, root: Browser) -> None:
    root.post(path(cast, "/enter"), data={"reason": REASON})
    assert root.get("/t/globex/").status_code == 403


def test_a_support_session_ends_by_itself(cast: Cast, root: Browser) -> None:
    root.post(path(cast, "/enter"), data={"reason": REASON})
    with cast.everything() as session:
        session.exec(select(SupportSession)).one().expires_at = utc_now() - timedelta(seconds=1)
        session.commit()
    assert root.get("/t/acme/").status_code == 403


@pytest.mark.parametrize(
    ("role", "seen", "done"), [("read_only", 200, 403), ("support", 200, 303), ("admin", 200, 303)]
)
def test_roles_of_the_staff(cast: Cast, role: str, seen: int, done: int) -> None:
    give_role(cast, "root", role)
    root = cast.browser("root")
    assert root.get(LIST).status_code == seen
    assert root.post(path(cast, "/enter"), data={"reason": REASON}).status_code == done
    assert root.post(path(cast, "/suspend"), data={"reason": REASON}).status_code == done


def test_who_loses_the_role_is_out_at_once(cast: Cast, root: Browser) -> None:
    root.post(path(cast, "/enter"), data={"reason": REASON})
    give_role(cast, "root", "read_only")
    assert root.get("/t/acme/").status_code == 403
    give_role(cast, "root", None)
    assert root.get(LIST).status_code == 404
    assert root.get("/t/acme/").status_code == 404


def test_a_member_cannot_leave_what_it_did_not_enter(alice: Browser) -> None:
    assert alice.post("/t/acme/support/leave").status_code == 404
