"""The harness itself, without the edge: sipp and the test peers straight at Kamailio."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.kamailio.registrar import ACCOUNTS, KamailioError, KamailioRegistrar
from tests.integration.kamailio.sipp import Sipp, SippError
from tests.peers import Phone
from tests.peers.agent import Agent
from tests.peers.loop import in_loop

pytestmark = pytest.mark.needs("kamailio", "sipp")
PASSWORD = ACCOUNTS["acme.example"]["101"]

both_transports = pytest.mark.parametrize("transport", ["udp", "tcp"])


@both_transports
def test_sipp_registers_and_both_domains_have_a_101(kamailio: KamailioRegistrar, sipp: Sipp, transport: str) -> None:
    for domain, users in ACCOUNTS.items():
        sipp.register("101", domain, users["101"], kamailio.hop(transport), contact=f"sip:101@{domain};x=1")
        assert kamailio.contacts(f"101@{domain}") == [f"sip:101@{domain};x=1"]


def test_a_wrong_password_is_refused(kamailio: KamailioRegistrar, sipp: Sipp) -> None:
    with pytest.raises(SippError, match="401"):
        sipp.register("101", "acme.example", "globex-secret", kamailio.hop())
    assert kamailio.contacts("101@acme.example") == []


def test_sipp_calls_a_sipp_phone(kamailio: KamailioRegistrar, sipp: Sipp) -> None:
    """Through Kamailio, with the Contact as Request-URI, to where it registered from; in the dialog too."""
    contact = "sip:101@tenant.example"
    with sipp.phone("101", "acme.example", PASSWORD, kamailio.hop(), contact=contact) as phone:
        sipp.call("101", "acme.example", kamailio.hop())
        phone.wait()
    assert f"INVITE {contact} SIP/2.0" in phone.messages()


@both_transports
@in_loop
async def test_calls_reach_a_contact_whose_domain_nobody_resolves(kamailio: KamailioRegistrar, transport: str) -> None:
    """As the edge with the mode on: the tenant's domain in the Contact, also in the dialog."""
    hop = kamailio.hop(transport)
    async with Phone("101", "acme.example", PASSWORD, hop) as phone, Agent("caller", transport=transport) as caller:
        phone.contact = lambda hop: "<sip:101@tenant.example>"  # type: ignore[method-assign]
        assert (await phone.register()).status == 200
        call = caller.begin_call(
            "sip:101@acme.example", hop, local="<sip:caller@public.example>", remote="<sip:101@acme.example>"
        )
        incoming = await phone.incoming()
        assert incoming.invite.uri == "sip:101@tenant.example"
        incoming.ring()
        await call.ringing()
        incoming.answer()
        await call.answered()
        await incoming.acknowledged()
        assert (await call.reinvite()).status == 200
        assert (await incoming.bye()).status == 200
        assert await call.ended() == "remote"


@in_loop
async def test_users_prove_who_they_are_and_reach_the_gateway(tmp_path: Path) -> None:
    async with Agent("gateway") as gateway:
        with KamailioRegistrar(tmp_path, gateway=f"127.0.0.1:{gateway.port}") as kamailio:
            async with Phone("101", "globex.example", "globex-secret", kamailio.hop()) as phone:
                call = phone.call("0301234")
                incoming = await gateway.incoming()
                assert incoming.invite.uri == "sip:0301234@globex.example"
                incoming.reject(486)
                assert (await call.final()).status == 486
                assert (await phone.call("102").final()).status == 480
                phone.auth.password = "wrong"
                assert (await phone.call("102").final()).status == 407


def test_a_restart_forgets_bindings_and_keeps_the_port(kamailio: KamailioRegistrar, sipp: Sipp) -> None:
    sipp.register("101", "acme.example", PASSWORD, kamailio.hop())
    port, pid = kamailio.port, kamailio.pid
    kamailio.restart()
    assert kamailio.contacts("101@acme.example") == []
    assert (kamailio.port, kamailio.pid) != (port, pid)
    sipp.register("101", "acme.example", PASSWORD, kamailio.hop())


def test_it_is_gone_when_it_is_stopped(tmp_path: Path) -> None:
    with KamailioRegistrar(tmp_path) as kamailio:
        pid = kamailio.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_start_that_fails_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(KamailioError, match="syntax error"), KamailioRegistrar(tmp_path, gateway='x" syntax'):
        pass


def test_accounts_that_could_end_a_string_are_refused(tmp_path: Path) -> None:
    accounts = {"a.example": {"1": '"; x'}}
    with pytest.raises(ValueError, match="cannot be written"), KamailioRegistrar(tmp_path, accounts):
        pass
