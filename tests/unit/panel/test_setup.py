"""The one-time link for the provider's first account."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from panel.models import Account, SetupToken
from panel.models.base import utc_now
from panel.setup import service
from tests.cast import PASSWORD, PLATFORM, TESTER, Cast

FORM = {"name": "Root", "email": f"root@{PLATFORM}", "password": PASSWORD}


def new_link(cast: Cast) -> str:
    with cast.database.session() as session:
        token = service.new_link(session, TESTER)
    assert token is not None
    return f"/setup/{token}"


def test_it_creates_the_provider_and_lets_in(bare: Cast) -> None:
    path, browser = new_link(bare), bare.browser()
    assert "This link works once" in browser.get(path).text
    answer = browser.post(path, data=FORM)
    assert (answer.status_code, answer.location) == (303, "/provider/tenants")
    assert browser.get("/provider/tenants").status_code == 200
    root = bare.account("root")
    assert (root.provider_role, root.email_verified_at is not None) == ("admin", True)
    assert bare.actions() == ["setup.link_made", "setup.done", "account.signed_in"]


def test_it_works_once(bare: Cast) -> None:
    path = new_link(bare)
    bare.browser().post(path, data=FORM)
    assert bare.browser().get(path).status_code == 404
    assert bare.browser().post(path, data={**FORM, "email": "second@x.example"}).status_code == 404


def test_a_new_link_makes_the_old_one_void(bare: Cast) -> None:
    old, new = new_link(bare), new_link(bare)
    assert bare.browser().get(old).status_code == 404
    assert bare.browser().get(new).status_code == 200


def test_it_expires(bare: Cast) -> None:
    path = new_link(bare)
    with bare.everything() as session:
        session.exec(select(SetupToken)).one().expires_at = utc_now() - timedelta(seconds=1)
        session.commit()
    assert bare.browser().post(path, data=FORM).status_code == 404


def test_an_invented_link_is_none(bare: Cast) -> None:
    assert bare.browser().get("/setup/invented").status_code == 404


def test_where_the_provider_has_an_account_there_is_no_link(cast: Cast) -> None:
    with cast.database.session() as session:
        assert service.new_link(session, TESTER) is None


@pytest.mark.parametrize(
    ("field", "value"), [("email", "root"), ("password", "password12345"), ("password", ""), ("name", "x" * 201)]
)
def test_what_is_wrong_is_said_and_the_link_stays_good(bare: Cast, field: str, value: str) -> None:
    path, browser = new_link(bare), bare.browser()
    answer = browser.post(path, data={**FORM, field: value})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert browser.post(path, data=FORM).status_code == 303


def test_an_account_that_exists_is_not_taken_over(bare: Cast) -> None:
    bare.add(Account(email=FORM["email"], password_hash="x"))
    answer = bare.browser().post(new_link(bare), data=FORM)
    assert answer.status_code == 422
    assert bare.account("root").provider_role is None
