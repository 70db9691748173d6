"""Signing up, and the link from the mail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import func, select
from werkzeug.test import TestResponse

from panel.errors import Invalid
from panel.models import Account, Domain, EmailToken, Membership, OutboxMail, Tenant
from panel.models.base import utc_now
from panel.signup import service
from panel.signup.forms import SignUp
from panel.signup.service import Place
from tests.cast import PASSWORD, PLATFORM, TESTER, Browser, Cast, link_in

PLACE = Place(PLATFORM, "http://localhost")
DORA: dict[str, str] = {
    "organisation": "Blue Bird",
    "slug": "blue-bird",
    "email": "Dora@Bird.example",
    "password": PASSWORD,
}


def send(browser: Browser, **changed: str) -> TestResponse:
    return browser.post("/signup", data={**DORA, **changed})


def mails(cast: Cast) -> list[OutboxMail]:
    with cast.looking() as session:
        found = list(session.exec(select(OutboxMail).order_by(OutboxMail.created_at)).all())  # type: ignore[arg-type]
        for mail in found:
            session.expunge(mail)
        return found


def link(cast: Cast) -> str:
    return link_in(mails(cast)[-1].text, "/verify/")


def count(cast: Cast, model: type[Any]) -> int:
    with cast.looking() as session:
        return session.exec(select(func.count()).select_from(model)).one()


def test_from_sign_up_to_the_overview(cast: Cast) -> None:
    browser = cast.browser()
    assert browser.get("/signup").status_code == 200
    answer = send(browser)
    assert (answer.status_code, answer.location) == (303, "/signup/sent")
    assert "Look into your mail" in browser.get("/signup/sent").text
    opened = browser.get(link(cast))
    assert "dora@bird.example" in opened.text
    used = browser.post(link(cast))
    assert (used.status_code, used.location) == (303, "/t/blue-bird/")
    assert "blue-bird.tenantry.example" in browser.get("/t/blue-bird/").text


def test_what_sign_up_makes(cast: Cast) -> None:
    send(cast.browser())
    with cast.looking() as session:
        account = session.exec(select(Account).where(Account.email == "dora@bird.example")).one()
        assert account.password_hash.startswith("$argon2id$")
        assert account.email_verified_at is None
        tenant = session.exec(select(Tenant).where(Tenant.slug == "blue-bird")).one()
        domain = session.exec(select(Domain).where(Domain.tenant_id == tenant.id)).one()
        assert (domain.name, domain.is_primary) == ("blue-bird.tenantry.example", True)
        member = session.exec(select(Membership).where(Membership.tenant_id == tenant.id)).one()
        assert (member.account_id, member.role) == (account.id, "owner")
    entry = cast.audit()[-1]
    assert (entry.action, entry.label, entry.tenant_id) == ("tenant.signed_up", "dora@bird.example", tenant.id)


def test_before_the_link_is_used_there_is_no_way_in(cast: Cast) -> None:
    browser = cast.browser()
    send(browser)
    assert browser.get("/t/blue-bird/").location.startswith("/sign-in")
    assert browser.sign_in(DORA["email"]).status_code == 422
    assert browser.sign_in(DORA["email"]).status_code == 422


def test_the_link_opened_elsewhere_leads_to_sign_in(cast: Cast) -> None:
    send(cast.browser())
    elsewhere = cast.browser()
    assert elsewhere.post(link(cast)).location == "/sign-in"
    assert elsewhere.sign_in(DORA["email"]).location == "/t/blue-bird/"


def test_the_link_works_once(cast: Cast) -> None:
    browser, path = cast.browser(), ""
    send(browser)
    path = link(cast)
    assert browser.post(path).status_code == 303
    assert browser.post(path).status_code == 404
    assert "not good any more" in browser.get(path).text


def test_opening_the_link_alone_changes_nothing(cast: Cast) -> None:
    send(cast.browser())
    for _ in range(2):
        assert cast.browser().get(link(cast)).status_code == 200
    assert cast.browser().sign_in(DORA["email"]).status_code == 422


def test_the_link_expires(cast: Cast) -> None:
    send(cast.browser())
    with cast.everything() as session:
        session.exec(select(EmailToken)).one().expires_at = utc_now() - timedelta(seconds=1)
        session.commit()
    assert cast.browser().post(link(cast)).status_code == 404


def test_a_new_link_makes_the_old_one_void(cast: Cast) -> None:
    send(cast.browser())
    old = link(cast)
    again = cast.browser().post("/signup/sent", data={"email": DORA["email"]})
    assert again.status_code == 303
    assert cast.browser().post(old).status_code == 404
    assert cast.browser().post(link(cast)).status_code == 303


@pytest.mark.parametrize("email", [f"alice@{PLATFORM}", "stranger@elsewhere.example"])
def test_asking_for_a_link_tells_nothing(cast: Cast, email: str) -> None:
    answer = cast.browser().post("/signup/sent", data={"email": email})
    assert (answer.status_code, answer.location) == (303, "/signup/sent")
    assert mails(cast) == []


def test_an_address_with_an_account_is_told_so_by_mail_only(cast: Cast) -> None:
    tenants = count(cast, Tenant)
    answer = send(cast.browser(), email=f"alice@{PLATFORM}")
    assert (answer.status_code, answer.location) == (303, "/signup/sent")
    assert count(cast, Tenant) == tenants
    assert (mails(cast)[-1].to, mails(cast)[-1].subject) == (f"alice@{PLATFORM}", "You already have an account")


def test_a_sign_up_that_was_never_confirmed_gives_way(cast: Cast) -> None:
    send(cast.browser())
    old = link(cast)
    assert send(cast.browser(), slug="bird").status_code == 303
    assert cast.browser().post(old).status_code == 404
    with cast.looking() as session:
        assert session.exec(select(Tenant.slug).where(Tenant.name == "Blue Bird")).all() == ["bird"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("organisation", "", "Please fill this in."),
        ("organisation", "A\nB", "control character"),
        ("organisation", "x" * 201, "At most 200 characters"),
        ("slug", "a", "At least 2 characters"),
        ("slug", "acme", "“acme” is taken by another organisation. “acme-2” is free."),
        ("slug", "www", "kept for the provider"),
        ("slug", "a b", "no short name"),
        ("slug", "xn--abc", "other alphabets"),
        ("email", "dora", "no e-mail address"),
        ("password", "short", "At least 12 characters"),
        ("password", "blue bird blue", "easy to guess"),
        ("password", "aaaaaaaaaaaaaaa", "repeats itself"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(cast: Cast, field: str, value: str, sentence: str) -> None:
    answer = send(cast.browser(), **{field: value})
    assert answer.status_code == 422
    assert sentence in answer.text
    assert f'id="{field}-error"' in answer.text
    assert count(cast, Tenant) == 2


def test_what_was_typed_stays_but_never_the_password(cast: Cast) -> None:
    page = send(cast.browser(), email="dora").text
    assert 'value="Blue Bird"' in page
    assert PASSWORD not in page


def test_the_live_check_proposes(cast: Cast) -> None:
    answer = cast.browser().htmx("/signup?organisation=Acme&slug=&proposed=")
    assert "<html" not in answer.text
    assert 'value="acme-2"' in answer.text
    assert "acme-2.tenantry.example is free" in answer.text


def test_the_live_check_keeps_what_was_typed_by_hand(cast: Cast) -> None:
    answer = cast.browser().htmx("/signup?organisation=Blue+Bird+Ltd&slug=birdy&proposed=blue-bird")
    assert 'value="birdy"' in answer.text


def test_the_live_check_explains_what_is_taken_and_nothing_else(cast: Cast) -> None:
    text = cast.browser().htmx("/signup?slug=globex").text
    assert "“globex” is taken by another organisation." in text
    assert "“globex-2” is free." in text
    assert "Globex Corporation" not in text


def test_who_is_signed_in_does_not_sign_up(alice: Browser) -> None:
    assert alice.get("/signup").location == "/t/acme/"


def test_two_at_once_cannot_have_the_same_name(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one's check came before the first one's commit; the database has the last word."""
    monkeypatch.setattr(service, "_is_taken", lambda *_: False)
    data = SignUp(organisation="Other", slug="acme", email="x@other.example", password=PASSWORD)
    with cast.app.app_context(), cast.database.session() as session:
        with pytest.raises(Invalid, match="just been taken") as refusal:
            service.sign_up(session, TESTER, data, PLACE)
        assert isinstance(refusal.value.__cause__, IntegrityError)
    assert count(cast, Account) == 4
