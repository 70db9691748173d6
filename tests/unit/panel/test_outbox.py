"""Mails: sent where a mail server is set up, else kept and shown to whoever sits at this machine."""

from __future__ import annotations

import smtplib
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from sqlmodel import select

from panel.config import Smtp
from panel.models import OutboxMail
from panel.outbox import service
from tests.cast import Browser, Cast, cast_of, close

SMTP = Smtp("mail.example", 587, "user", "pass", "starttls", "panel@tenantry.example")
ELSEWHERE = {"REMOTE_ADDR": "198.51.100.7"}


class FakeServer:
    """Takes mails like `smtplib.SMTP`; notes what it was told."""

    told: ClassVar[list[Any]] = []
    fails: Exception | None = None

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.told.append((host, port))

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.told.append("quit")

    def starttls(self, **_: Any) -> None:
        self.told.append("starttls")

    def login(self, username: str, password: str) -> None:
        self.told.append((username, password))

    def send_message(self, message: Any) -> None:
        if self.fails:
            raise self.fails
        self.told.append((message["From"], message["To"], message["Subject"], message.get_content().strip()))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[FakeServer]:
    monkeypatch.setattr(FakeServer, "told", [])
    monkeypatch.setattr(smtplib, "SMTP", FakeServer)
    monkeypatch.setattr(smtplib, "SMTP_SSL", FakeServer)
    return FakeServer


def send(cast: Cast, smtp: Smtp | None) -> OutboxMail:
    other = cast_of(replace(cast.config, smtp=smtp), members=False)
    with other.app.app_context(), other.database.session() as session:
        mail = service.write(session, "dora@bird.example", "Hello", "A link")
        session.commit()
        service.post(session, mail)
        session.refresh(mail)
        session.expunge(mail)
    close(other)
    return mail


def test_without_a_mail_server_it_is_kept(cast: Cast, server: type[FakeServer]) -> None:
    assert (send(cast, None).state, server.told) == ("kept", [])


def test_with_one_it_is_sent_and_its_text_dropped(cast: Cast, server: type[FakeServer]) -> None:
    mail = send(cast, SMTP)
    assert (mail.state, mail.text, mail.error) == ("sent", "", "")
    assert server.told == [
        ("mail.example", 587),
        "starttls",
        ("user", "pass"),
        ("panel@tenantry.example", "dora@bird.example", "Hello", "A link"),
        "quit",
    ]


@pytest.mark.parametrize("security", ["none", "tls"])
def test_other_ways_of_speaking_to_it(cast: Cast, server: type[FakeServer], security: str) -> None:
    assert send(cast, replace(SMTP, security=security, username="")).state == "sent"
    assert "starttls" not in server.told


@pytest.mark.parametrize("error", [OSError("no route"), smtplib.SMTPRecipientsRefused({})])
def test_a_failure_is_kept_and_not_raised(
    cast: Cast, server: type[FakeServer], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(FakeServer, "fails", error)
    mail = send(cast, SMTP)
    assert (mail.state, mail.text) == ("failed", "A link")
    assert mail.error == str(error)


def keep(cast: Cast) -> None:
    cast.add(OutboxMail(to="dora@bird.example", subject="Hello", text="http://localhost/verify/abc <b>", state="kept"))


def test_the_page_shows_the_mails(cast: Cast, nobody: Browser) -> None:
    keep(cast)
    page = nobody.get("/outbox").text
    assert 'href="http://localhost/verify/abc"' in page
    assert "&lt;b&gt;" in page
    with cast.looking() as session:
        assert session.exec(select(OutboxMail.state)).all() == ["kept"]


def test_the_page_is_for_this_machine_only(cast: Cast, nobody: Browser) -> None:
    assert nobody.get("/outbox", environ_base=ELSEWHERE).status_code == 404
    assert "local outbox" not in nobody.get("/signup/sent", environ_base=ELSEWHERE).text
    assert "local outbox" in nobody.get("/signup/sent").text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.0.2.1"])
def test_a_name_that_was_bent_to_this_machine_gets_nothing(nobody: Browser, host: str) -> None:
    assert nobody.get("/outbox", headers={"Host": host}).status_code == 404


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_names_of_this_machine(nobody: Browser, host: str) -> None:
    assert nobody.get("/outbox", headers={"Host": host}).status_code == 200


def test_with_a_mail_server_there_is_no_page(cast: Cast) -> None:
    other = cast_of(replace(cast.config, smtp=SMTP), members=False)
    assert other.browser().get("/outbox").status_code == 404
    close(other)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"])
def test_who_comes_through_a_proxy_gets_nothing(nobody: Browser, header: str) -> None:
    assert nobody.get("/outbox", headers={header: "127.0.0.1"}).status_code == 404


def test_an_installation_with_an_address_of_its_own_has_no_page(cast: Cast) -> None:
    other = cast_of(replace(cast.config, base_url="https://panel.example"), members=False)
    assert other.browser().get("/outbox").status_code == 404
    close(other)
