"""TLS without sockets: two ends that hand each other their bytes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from sipd.net.tls import CertificateError, Certificates, Files, Pair, Tls, TlsError
from tests.authority import Authority


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def shake_hands(client: Tls, server: Tls) -> None:
    """Until both are ready. Raises TlsError of whoever fails first."""
    client.start()
    for _ in range(10):
        if data := client.output():
            server.receive(data)
        if data := server.output():
            client.receive(data)
    assert client.ready
    assert server.ready


def client_of(context: ssl.SSLContext, name: str) -> Tls:
    return Tls(context, server_side=False, name=name)


def certificates(ca: Authority, *server: Pair, client_authorities: Path | None = None) -> Certificates:
    return Certificates(Files(server, client_authorities=client_authorities), {})


def shown(served: Certificates, ca: Authority, name: str) -> frozenset[str]:
    """The names in the certificate that a client gets who asks for `name`."""
    context = ca.client()
    context.check_hostname = False
    client = client_of(context, name)
    shake_hands(client, served.accept())
    return client.verified


def test_what_one_sends_the_other_receives(ca: Authority) -> None:
    server = certificates(ca, ca.pair("edge.example")).accept()
    client = client_of(ca.client(), "edge.example")
    shake_hands(client, server)
    client.send(b"x" * 100_000)
    assert server.receive(client.output()) == b"x" * 100_000
    server.send(b"answer")
    assert client.receive(server.output()) == b"answer"
    client.close()
    assert server.receive(client.output()) == b""
    assert server.ended


def test_byte_by_byte(ca: Authority) -> None:
    server = certificates(ca, ca.pair("edge.example")).accept()
    client = client_of(ca.client(), "edge.example")
    client.start()
    for _ in range(10):
        for byte in client.output():
            server.receive(bytes([byte]))
        for byte in server.output():
            client.receive(bytes([byte]))
    assert server.ready
    client.send(b"hello")
    assert b"".join(server.receive(bytes([byte])) for byte in client.output()) == b"hello"


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("acme.example", {"acme.example", "sip.acme.example"}),
        ("SIP.Acme.Example", {"acme.example", "sip.acme.example"}),
        ("globex.example", {"*.example", "globex.org"}),
        ("deep.globex.example", {"edge.example"}),
        ("unknown.org", {"edge.example"}),
        ("", {"edge.example"}),
    ],
)
def test_the_certificate_is_chosen_by_server_name(ca: Authority, asked: str, names: set[str]) -> None:
    """By the very name, then by wildcard, which is for one label; else the first."""
    served = certificates(
        ca, ca.pair("edge.example"), ca.pair("*.example", "globex.org"), ca.pair("acme.example", "sip.acme.example")
    )
    assert shown(served, ca, asked) == names


def test_tls_1_1_is_refused(ca: Authority) -> None:
    context = ca.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = certificates(ca, ca.pair("edge.example")).accept()
    with pytest.raises(TlsError, match="unsupported protocol"):
        shake_hands(client_of(context, "edge.example"), server)


def test_junk_is_no_tls(ca: Authority) -> None:
    with pytest.raises(TlsError):
        certificates(ca, ca.pair("edge.example")).accept().receive(b"OPTIONS sip:a SIP/2.0\r\n\r\n")


class TestClientCertificate:
    def test_its_names_are_known(self, ca: Authority, tmp_path: Path) -> None:
        clients = Authority(tmp_path, "clients")
        served = certificates(ca, ca.pair("edge.example"), client_authorities=clients.file)
        server = served.accept()
        shake_hands(client_of(ca.client(clients.pair("PBX.example", "127.0.0.1")), "edge.example"), server)
        assert server.verified == {"pbx.example"}

    def test_it_may_be_absent(self, ca: Authority) -> None:
        server = certificates(ca, ca.pair("edge.example"), client_authorities=ca.file).accept()
        shake_hands(client_of(ca.client(), "edge.example"), server)
        assert server.verified == frozenset()

    def test_of_another_authority_it_is_refused(self, ca: Authority, tmp_path: Path) -> None:
        stranger = Authority(tmp_path, "stranger")
        server = certificates(ca, ca.pair("edge.example"), client_authorities=ca.file).accept()
        with pytest.raises(TlsError, match="not believed"):
            shake_hands(client_of(ca.client(stranger.pair("pbx.example")), "edge.example"), server)

    def test_none_is_asked_for_without_authorities(self, ca: Authority) -> None:
        server = certificates(ca, ca.pair("edge.example")).accept()
        shake_hands(client_of(ca.client(ca.pair("pbx.example")), "edge.example"), server)
        assert server.verified == frozenset()


class TestConnect:
    def pbx(self, ca: Authority, *names: str) -> Tls:
        return certificates(ca, ca.pair(*names)).accept()

    def test_name_and_chain_are_verified(self, ca: Authority) -> None:
        ours = Certificates(Files(authorities=ca.file), {})
        client = ours.connect("pbx.example", verify=True)
        shake_hands(client, self.pbx(ca, "pbx.example"))
        assert client.verified == {"pbx.example"}

    def test_an_address_is_a_name_too(self, ca: Authority) -> None:
        ours = Certificates(Files(authorities=ca.file), {})
        shake_hands(ours.connect("192.0.2.1", verify=True), self.pbx(ca, "192.0.2.1"))

    @pytest.mark.parametrize("name", ["other.example", "192.0.2.2"])
    def test_another_name_is_refused(self, ca: Authority, name: str) -> None:
        ours = Certificates(Files(authorities=ca.file), {})
        with pytest.raises(TlsError, match="not believed"):
            shake_hands(ours.connect(name, verify=True), self.pbx(ca, "pbx.example", "192.0.2.1"))

    def test_another_authority_is_refused(self, ca: Authority, tmp_path: Path) -> None:
        ours = Certificates(Files(authorities=Authority(tmp_path, "other").file), {})
        with pytest.raises(TlsError, match="not believed"):
            shake_hands(ours.connect("pbx.example", verify=True), self.pbx(ca, "pbx.example"))

    def test_by_default_the_system_is_asked(self, ca: Authority) -> None:
        with pytest.raises(TlsError, match="not believed"):
            shake_hands(Certificates(Files(), {}).connect("pbx.example", verify=True), self.pbx(ca, "pbx.example"))

    def test_nothing_is_verified_where_the_connection_says_so(self, ca: Authority) -> None:
        client = Certificates(Files(), {}).connect("other.example", verify=False)
        shake_hands(client, self.pbx(ca, "pbx.example"))
        assert client.verified == frozenset()

    def test_our_own_certificate_is_shown(self, ca: Authority) -> None:
        pbx = certificates(ca, ca.pair("pbx.example"), client_authorities=ca.file).accept()
        ours = Certificates(Files(authorities=ca.file, client=ca.pair("edge.example")), {})
        shake_hands(ours.connect("pbx.example", verify=True), pbx)
        assert pbx.verified == {"edge.example"}

    @pytest.mark.parametrize("name", ["", ".", "a" * 300, "nul\0.example", "-\u00e9" * 70])
    def test_a_name_that_is_none(self, ca: Authority, name: str) -> None:
        """A table may hold what no certificate can be for: that fails as a connection does."""
        ours = Certificates(Files(authorities=ca.file), {})
        with pytest.raises(TlsError):
            shake_hands(ours.connect(name, verify=True), self.pbx(ca, "pbx.example"))


class TestReload:
    def test_new_connections_get_the_new_certificate_and_old_ones_go_on(self, ca: Authority) -> None:
        counters: dict[str, int] = {}
        served = Certificates(Files((ca.pair("old.example", file="edge"),)), counters)
        old_server, old_client = served.accept(), client_of(ca.client(), "old.example")
        shake_hands(old_client, old_server)
        served.reload_if_changed()
        assert counters["tls.reloads"] == 0
        ca.pair("new.example", file="edge")
        served.reload_if_changed()
        assert counters["tls.reloads"] == 1
        assert shown(served, ca, "new.example") == {"new.example"}
        old_client.send(b"still here")
        assert old_server.receive(old_client.output()) == b"still here"

    @pytest.mark.parametrize(
        "content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_a_broken_one_keeps_the_old_one_and_is_counted(self, ca: Authority, content: bytes) -> None:
        counters: dict[str, int] = {}
        pair = ca.pair("edge.example")
        served = Certificates(Files((pair,)), counters)
        good = pair.chain.read_bytes()
        pair.chain.write_bytes(content)
        served.reload_if_changed()
        served.reload_if_changed()  # once for each change
        assert (counters["tls.reload_failures"], counters["tls.reloads"]) == (1, 0)
        assert shown(served, ca, "edge.example") == {"edge.example"}
        pair.chain.write_bytes(good)
        os.utime(pair.chain, (1, 1))
        served.reload_if_changed()
        assert counters["tls.reloads"] == 1

    def test_of_several_a_broken_one_keeps_all(self, ca: Authority) -> None:
        first, second = ca.pair("first.example"), ca.pair("second.example")
        served = certificates(ca, first, second)
        ca.pair("changed.example", file="first.example")
        second.chain.unlink()
        assert "second.example.pem" in served.reload()
        assert shown(served, ca, "first.example") == {"first.example"}


def test_what_cannot_be_used_at_the_start_is_named(ca: Authority, tmp_path: Path) -> None:
    good, other = ca.pair("a.example"), ca.pair("b.example")
    (tmp_path / "junk.pem").write_text("junk")
    for files, named in (
        (Files((Pair(tmp_path / "no.pem", tmp_path / "no.pem"),)), "no.pem cannot be used: No such file"),
        (Files((Pair(good.chain, other.key),)), "with the key .*b.example.pem cannot be used: key values mismatch"),
        (Files(authorities=tmp_path / "junk.pem"), "The authorities in .*junk.pem cannot be used"),
        (Files((good,), client_authorities=tmp_path / "none.pem"), "none.pem cannot be used: No such file"),
    ):
        with pytest.raises(CertificateError, match=named):
            Certificates(files, {})
