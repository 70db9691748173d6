"""What the daemon is told at start: precedence, and errors that say what to do."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from sipd import config
from sipd.config import Address, Advertised, ConfigError, ListenOn, advertised_of, parse_listen
from sipd.net.tls import Files, Pair


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sipd.toml"
    path.write_text(text)
    return str(path)


def test_defaults() -> None:
    found = config.load({}, {})
    assert found.listen == (
        ListenOn("udp", Address("127.0.0.1", 5060)),
        ListenOn("tcp", Address("127.0.0.1", 5060)),
    )
    assert found.control == Path("sipd-state/control.sock")
    assert found.key_file == Path("sipd-state/key")
    assert found.control_tcp is None


def test_file_below_environment_below_flag(tmp_path: Path) -> None:
    file = toml(tmp_path, 'node = "file"\nstate = "file"\nadvertise = "file.example"\nlisten = ["udp:127.0.0.1:1"]')
    environment = {"TENANTRY_NODE": "environment", "TENANTRY_STATE": "environment"}
    found = config.load({"config": file, "node": "flag", "state": None, "listen": None}, environment)
    assert (found.node, found.state, found.advertise_host) == ("flag", Path("environment"), "file.example")
    assert found.listen == (ListenOn("udp", Address("127.0.0.1", 1)),)


def test_listen_from_the_environment_and_from_flags() -> None:
    environment = {"TENANTRY_LISTEN": "udp:127.0.0.1:1, tcp:[::1]:2"}
    assert config.load({}, environment).listen[1] == ListenOn("tcp", Address("::1", 2))
    assert config.load({"listen": ["udp:127.0.0.1:3"]}, environment).listen[0].address.port == 3


def test_name_servers_from_all_places(tmp_path: Path) -> None:
    file = toml(tmp_path, 'dns_server = ["192.0.2.53", "[2001:db8::53]:5353"]')
    found = config.load({"config": file}, {}).dns_servers
    assert found == (Address("192.0.2.53", 53), Address("2001:db8::53", 5353))
    environment = {"TENANTRY_DNS_SERVER": "192.0.2.1:54 2001:db8::1"}
    found = config.load({"config": file}, environment).dns_servers
    assert found == (Address("192.0.2.1", 54), Address("2001:db8::1", 53))
    assert config.load({"dns_server": ["127.0.0.1:5"]}, environment).dns_servers == (Address("127.0.0.1", 5),)
    assert config.load({}, {}).dns_servers == ()


@pytest.mark.parametrize("text", ["dns.example", "192.0.2.1:0", "192.0.2.1:99999", ""])
def test_a_name_server_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="dns-server"):
        config.load({"dns_server": [text]}, {})


def test_too_many_name_servers_are_refused() -> None:
    with pytest.raises(ConfigError, match="limit is 8"):
        config.load({"dns_server": [f"192.0.2.{n}" for n in range(1, 10)]}, {})


def test_media_relays_from_all_places(tmp_path: Path) -> None:
    file = toml(tmp_path, 'media = ["udp:192.0.2.9:2223", "udp:[2001:db8::9]:2223"]')
    assert config.load({"config": file}, {}).media == (Address("192.0.2.9", 2223), Address("2001:db8::9", 2223))
    environment = {"TENANTRY_MEDIA": "udp:192.0.2.1:1 udp:192.0.2.1:2"}
    assert [relay.port for relay in config.load({"config": file}, environment).media] == [1, 2]
    assert config.load({"media": ["udp:127.0.0.1:5"]}, environment).media == (Address("127.0.0.1", 5),)
    assert config.load({}, {}).media == ()


@pytest.mark.parametrize(
    "texts",
    [
        ["127.0.0.1:2223"], ["tcp:127.0.0.1:2223"], ["udp:relay.example:2223"], ["udp:127.0.0.1"], ["udp:127.0.0.1:0"],
        ["udp:0.0.0.0:2223"], ["udp:127.0.0.1:2223", "udp:127.0.0.1:2223"],
        [f"udp:127.0.0.1:{port}" for port in range(1, 66)],
    ],
)  # fmt: skip
def test_a_media_relay_that_is_none_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="media"):
        config.load({"media": texts}, {})


def test_the_file_is_named_by_the_environment(tmp_path: Path) -> None:
    assert config.load({}, {"TENANTRY_CONFIG": toml(tmp_path, 'node = "n1"')}).node == "n1"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nodes = 'x'", '"nodes" is no setting'),
        ("node = 1", '"node" takes a text'),
        ("listen = 'udp:127.0.0.1:1'", '"listen" takes a list'),
        ("node =", "is no TOML"),
    ],
)
def test_a_wrong_file_names_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.load({"config": toml(tmp_path, text)}, {})


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load({"config": "/nonexistent/sipd.toml"}, {})


@pytest.mark.parametrize(
    ("listen", "named"),
    [
        ("127.0.0.1:5060", "does not begin with udp, tcp, tls, ws or wss"),
        ("sctp:127.0.0.1:5060", "does not begin with udp, tcp, tls, ws or wss"),
        ("udp:127.0.0.1", "has no port"),
        ("udp:127.0.0.1:65536", "has no port"),
        ("udp:localhost:5060", "has no IP address"),
    ],
)
def test_a_wrong_listen(listen: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.load({"listen": [listen]}, {})


def test_the_same_listen_twice() -> None:
    with pytest.raises(ConfigError, match="twice"):
        config.load({"listen": ["udp:127.0.0.1:5060", "udp:127.0.0.1:5060"]}, {})


def test_a_wildcard_needs_to_be_advertised() -> None:
    with pytest.raises(ConfigError, match="--advertise"):
        config.load({"listen": ["udp:0.0.0.0:5060"]}, {})
    assert config.load({"listen": ["udp:0.0.0.0:5060"], "advertise": "sip.example"}, {}).advertise_host == "sip.example"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ("", 0)),
        ("SIP.example", ("sip.example", 0)),
        ("sip.example:5080", ("sip.example", 5080)),
        ("192.0.2.1:5080", ("192.0.2.1", 5080)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:db8::1]:5080", ("2001:db8::1", 5080)),
    ],
)
def test_advertise(text: str, read: tuple[str, int]) -> None:
    assert config.parse_advertise(text) == read


@pytest.mark.parametrize(
    "text", ["sip example", "sip.example:", "sip.example:x", "a..b", "<script>", "sip.example:99999"]
)
def test_a_wrong_advertise(text: str) -> None:
    with pytest.raises(ConfigError, match="advertise"):
        config.parse_advertise(text)


def test_control_over_tcp_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="control-token-file"):
        config.load({"control_tcp": "127.0.0.1:7000"}, {})


REMOTE = {"control_tcp": "192.0.2.7:7000", "control_token_file": "token"}


def test_control_beyond_this_machine_needs_a_certificate_or_an_explicit_word() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.7:7000.*--control-certificate.*--control-plain on"):
        config.load(REMOTE, {})
    with pytest.raises(ConfigError, match='control-plain "yes" is neither on nor off'):
        config.load({**REMOTE, "control_plain": "yes"}, {})
    assert config.load({**REMOTE, "control_plain": "on"}, {}).control_certificate is None
    found = config.load({**REMOTE, "control_certificate": "chain.pem=key.pem"}, {})
    assert found.control_certificate == (Path("chain.pem"), Path("key.pem"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]"])
def test_control_on_this_machine_needs_none(host: str) -> None:
    assert config.load({**REMOTE, "control_tcp": f"{host}:7000"}, {}).control_tcp is not None


def test_a_control_path_that_no_socket_can_have() -> None:
    with pytest.raises(ConfigError, match="shorter path"):
        config.load({"control": "/tmp/" + "x" * 110}, {})


def test_a_new_key_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    config.write_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(config.read_key(path)) == 64


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    config.write_key(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="never replaced"):
        config.write_key(path)
    assert path.read_bytes() == before


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="python -m sipd key"):
        config.read_key(tmp_path / "key")


@pytest.mark.parametrize("held", [b"not base64!", base64.b64encode(b"short secret")])
def test_a_wrong_key_is_not_quoted(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(held)
    with pytest.raises(ConfigError) as caught:
        config.read_key(path)
    assert held.decode() not in str(caught.value)


def test_a_token_has_to_be_long(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hunter2\n")
    with pytest.raises(ConfigError, match="16 or more") as caught:
        config.read_token(path)
    assert "hunter2" not in str(caught.value)
    path.write_text("0123456789abcdef\n")
    assert config.read_token(path) == "0123456789abcdef"


def test_node_is_the_hosts_name_by_default() -> None:
    assert config.load({}, {}).node == os.uname().nodename


@pytest.mark.parametrize(("text", "read"), [("MD5", ("MD5",)), ("sha-256, md5", ("SHA-256", "MD5"))])
def test_digest(text: str, read: tuple[str, ...]) -> None:
    assert config.load({"digest": text}, {}).digest == read


@pytest.mark.parametrize("text", [",", "SHA-512", "MD5,MD5", "MD5;SHA-256"])
def test_a_wrong_digest(text: str) -> None:
    with pytest.raises(ConfigError, match="digest"):
        config.load({"digest": text}, {})


def test_each_listener_may_say_how_others_reach_it() -> None:
    found = config.load({"listen": ["tcp:0.0.0.0:5062=203.0.113.7:5060", "udp:[::]:5060=[2001:db8::7]"]}, {})
    assert [one.advertised for one in found.listen] == [Advertised("203.0.113.7", 5060), Advertised("2001:db8::7", 0)]


@pytest.mark.parametrize(
    ("listen", "advertised"),
    [
        ("udp:0.0.0.0:5062", Advertised("203.0.113.7", 5070)),
        ("tls:0.0.0.0:5061", Advertised("203.0.113.7", 0)),  # the port is that of UDP and TCP
        ("udp:[::1]:5060", Advertised("", 0)),  # the address is of the other family
        ("udp:0.0.0.0:5062=sip.example:5064", Advertised("sip.example", 5064)),
    ],
)
def test_the_default_goes_where_it_fits(listen: str, advertised: Advertised) -> None:
    assert advertised_of(parse_listen(listen), "203.0.113.7", 5070) == advertised


def test_a_name_is_advertised_for_both_families() -> None:
    assert advertised_of(parse_listen("tls:[::1]:5061"), "sip.example", 0) == Advertised("sip.example", 0)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"listen": ["udp:0.0.0.0:5060="]}, "nothing after ="),
        ({"listen": ["udp:0.0.0.0:5060=a b"]}, "no host or host:port"),
        ({"listen": ["udp:[::]:5060"], "advertise": "203.0.113.7"}, "every address of this machine"),
        ({"listen": ["tls:127.0.0.1:5061"]}, "tls needs a certificate"),
        ({"listen": ["wss:127.0.0.1:443"]}, "wss needs a certificate"),
        ({"tls_certificate": ["=key.pem"]}, "names no file"),
        ({"tls_client_certificate": "chain.pem="}, "names no file"),
    ],
)
def test_a_listener_that_cannot_serve(flags: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.load(flags, {})


def test_certificates_and_origins_from_every_place(tmp_path: Path) -> None:
    file = toml(tmp_path, 'tls_certificate = ["a.pem", "b.pem=b.key"]\nws_origin = ["https://a.example"]')
    environment = {"TENANTRY_TLS_AUTHORITIES": "ca.pem", "TENANTRY_WS_ORIGIN": "https://b.example,https://c.example"}
    flags = {"config": file, "tls_client_authorities": "clients.pem", "tls_client_certificate": "own.pem"}
    found = config.load(flags, environment)
    assert found.ws_origins == ("https://b.example", "https://c.example")
    assert found.tls == Files(
        server=(Pair(Path("a.pem"), Path("a.pem")), Pair(Path("b.pem"), Path("b.key"))),
        client_authorities=Path("clients.pem"),
        authorities=Path("ca.pem"),
        client=Pair(Path("own.pem"), Path("own.pem")),
    )


def test_settings_of_the_core_by_name() -> None:
    flags = {"set": ["session_expires=3600", "user_agent=Edge/2", "upstream_rate=0.5"]}
    assert config.load(flags, {}).tuned == {"session_expires": 3600, "user_agent": "Edge/2", "upstream_rate": 0.5}
    assert config.load({}, {"TENANTRY_SET": "mute_after=5 mute_time=10"}).tuned == {"mute_after": 5, "mute_time": 10}
    assert config.load({}, {}).tuned == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("session_expires", "is no NAME=VALUE"),
        ("listeners=1", "the names are min_expires"),
        ("session_min=89", "no whole number from 90 to 86400"),
        ("session_min=90.5", "no whole number"),
        ("session_min=inf", "no whole number"),
        ("upstream_rate=nan", "no number from 0.1"),
        ("session_min=2000", "session_min=2000 is more than session_expires=1800"),
        ("max_expires=100", "default_expires=3600 is more than max_expires=100"),
        ("user_agent=two words", "is not one word"),
        ('user_agent=a"', "is not one word"),
    ],
)
def test_settings_of_the_core_that_cannot_be_used(text: str, says: str) -> None:
    with pytest.raises(config.ConfigError, match=says):
        config.load({"set": [text]}, {})


def test_a_setting_of_the_core_given_twice() -> None:
    with pytest.raises(config.ConfigError, match="given twice"):
        config.load({"set": ["mute_after=5", "mute_after=6"]}, {})


def test_nobody_watches_unless_told(tmp_path: Path) -> None:
    (tmp_path / "sipd.toml").write_text('metrics = "[::1]:9465"\nlog_format = "json"\n')
    nothing = config.load({}, {})
    assert (nothing.metrics, nothing.log_format, nothing.log_calls) == (None, "logfmt", False)
    flags = {"config": tmp_path / "sipd.toml", "log_calls": "on"}
    found = config.load(flags, {"TENANTRY_METRICS_TOKEN_FILE": "/etc/token"})
    assert (found.metrics, found.log_format, found.log_calls) == (("::1", 9465), "json", True)
    assert found.metrics_token_file == Path("/etc/token")
    assert config.load({}, {"TENANTRY_METRICS": "127.0.0.1:0", "TENANTRY_LOG_FORMAT": "json"}).metrics == (
        "127.0.0.1",
        0,
    )


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"metrics": "9465"}, 'metrics "9465"'),
        ({"metrics": "localhost:9465"}, "no IP address"),
        ({"log_format": "xml"}, "logfmt, json"),
        ({"log_calls": "yes"}, "neither on nor off"),
    ],
)
def test_watching_that_cannot_be(flags: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.load(flags, {})
