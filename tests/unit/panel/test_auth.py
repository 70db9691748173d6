"""Signing in and out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from panel import passwords
from panel.auth import service
from panel.limits import SIGN_IN
from panel.models import Account, AccountSession
from panel.models.base import utc_now
from panel.passwords import PasswordHasher
from panel.signedin import hash_token, safe_target
from tests.cast import PASSWORD, PLATFORM, Browser, Cast

ALICE = f"alice@{PLATFORM}"
TRIES = int(SIGN_IN.split()[0])


def test_the_front_door_leads_nobody_to_sign_in(nobody: Browser) -> None:
    answer = nobody.get("/")
    assert (answer.status_code, answer.location) == (303, "/sign-in")


@pytest.mark.parametrize(
    ("name", "home"), [("alice", "/t/acme/"), ("carol", "/t/globex/"), ("root", "/provider/tenants")]
)
def test_each_comes_home(cast: Cast, name: str, home: str) -> None:
    answer = cast.browser().sign_in(f"{name}@{PLATFORM}")
    assert (answer.status_code, answer.location) == (303, home)


def test_spelling_of_the_address_does_not_matter(nobody: Browser) -> None:
    assert nobody.sign_in(" Alice@Tenantry.EXAMPLE ").status_code == 303


@pytest.mark.parametrize("email", [ALICE, "stranger@elsewhere.example"])
def test_wrong_password_and_unknown_address_get_the_same_answer(nobody: Browser, email: str) -> None:
    answer = nobody.sign_in(email, "wrong password")
    assert answer.status_code == 422
    assert service.WRONG in answer.text
    assert "wrong password" not in answer.text


def test_unconfirmed_address_is_told_so_only_with_the_right_password(cast: Cast, nobody: Browser) -> None:
    with cast.everything() as session:
        account = session.exec(select(Account).where(Account.email == ALICE)).one()
        account.email_verified_at = None
        session.commit()
    assert "confirm your e-mail" in nobody.sign_in(ALICE).text
    assert "confirm your e-mail" not in nobody.sign_in(ALICE, "wrong password").text


def test_sign_in_leads_back_to_where_one_wanted_to_go(cast: Cast) -> None:
    browser = cast.browser()
    answer = browser.get("/t/acme/activity?q=x")
    assert answer.location == "/sign-in?next=/t/acme/activity?q%3Dx"
    assert 'value="/t/acme/activity?q=x"' in browser.get(answer.location).text
    sent = browser.post("/sign-in", data={"email": ALICE, "password": PASSWORD, "next": "/t/acme/activity?q=x"})
    assert sent.location == "/t/acme/activity?q=x"


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", "", None, "/a\nb", "javascript:x"]
)
def test_never_to_another_site(target: str | None) -> None:
    assert safe_target(target) is None


def test_the_cookie_is_worth_nothing_after_signing_out(cast: Cast, alice: Browser) -> None:
    stolen = alice.get_cookie("tenantry")
    assert stolen is not None
    alice.post("/sign-out")
    thief = cast.browser()
    thief.set_cookie("tenantry", stolen.value)
    assert thief.get("/t/acme/").location.startswith("/sign-in")
    assert "account.signed_out" in cast.actions()


def test_the_session_before_signing_in_is_not_kept(cast: Cast) -> None:
    browser = cast.browser()
    with browser.session_transaction() as planted:
        planted["csrf_token"] = planted["planted"] = "known to the attacker"
    browser.with_csrf = False
    page = browser.get("/sign-in").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    browser.post("/sign-in", data={"email": ALICE, "password": PASSWORD, "csrf_token": token})
    with browser.session_transaction() as session:
        assert "planted" not in session
        assert session.get("csrf_token") != "known to the attacker"
        assert "_user_id" in session


def test_the_database_keeps_only_the_hash_of_a_session(cast: Cast, alice: Browser) -> None:
    with alice.session_transaction() as session:
        token = session["_user_id"]
    with cast.everything() as rows:
        kept = rows.exec(select(AccountSession)).one()
        assert kept.token_hash == hash_token(token)
        assert token not in str(kept)


def test_a_session_ends_by_itself(cast: Cast, alice: Browser) -> None:
    with cast.everything() as session:
        session.exec(select(AccountSession)).one().expires_at = utc_now() - timedelta(seconds=1)
        session.commit()
    assert alice.get("/t/acme/").location.startswith("/sign-in")


def test_the_oldest_of_too_many_sessions_ends(cast: Cast, alice: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_SESSIONS", 2)
    second, third = cast.browser("alice"), cast.browser("alice")
    assert [browser.get("/t/acme/").status_code for browser in (alice, second, third)] == [303, 200, 200]


def test_an_outdated_hash_is_renewed(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cast.account("alice").password_hash
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    cast.browser("alice")
    after = cast.account("alice").password_hash
    assert after != before
    cast.browser("alice")
    assert cast.account("alice").password_hash == after


def test_guessing_ends_soon_but_does_not_lock_the_owner_out(cast: Cast) -> None:
    attacker = cast.browser()
    for _ in range(TRIES):
        assert attacker.sign_in(ALICE, "wrong").status_code == 422
    assert attacker.sign_in(ALICE, PASSWORD).status_code == 429
    elsewhere = {"REMOTE_ADDR": "198.51.100.7"}
    owner = cast.browser().post("/sign-in", data={"email": ALICE, "password": PASSWORD}, environ_base=elsewhere)
    assert owner.status_code == 303


def test_successes_do_not_count_as_guesses(cast: Cast) -> None:
    for _ in range(TRIES + 2):
        assert cast.browser().sign_in(ALICE).status_code == 303


def test_failures_are_audited_without_the_password(cast: Cast, nobody: Browser) -> None:
    nobody.sign_in(ALICE, "a wrong password")
    entry = cast.audit()[-1]
    assert (entry.action, entry.label, entry.ip) == ("account.sign_in_failed", ALICE, "127.0.0.1")
    assert "a wrong password" not in str(entry)


def test_htmx_is_redirected_as_a_whole(cast: Cast) -> None:
    answer = cast.browser().htmx("/t/acme/activity")
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/sign-in")


def test_organisations_of_an_account(alice: Browser, root: Browser) -> None:
    assert "Acme Ltd" in alice.get("/organisations").text
    assert "Globex" not in alice.get("/organisations").text
    assert "You belong to no organisation" in root.get("/organisations").text
