"""Command line of the edge: `python -m sipd run`, and commands that check tables and ask a running node."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd import commands, config, handmade, logs, tuning
from sipd.daemon import Daemon
from sipd.edge import Edge
from sipd.redact import BODIES
from sipd.trace import KINDS

ARRIVALS = ("udp", "tcp", "tls")
"""Over what a PBX's request may come."""
Verbs = argparse._SubParsersAction  # argparse gives it no other name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code.

    1: the node says no, or something was found wrong; 2: it could not be done. Standard error says why.
    """
    asked = parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except commands.RefusedError as error:
        print(f"sipd: {error}", file=sys.stderr)
        return commands.WITH_ERRORS
    except (config.ConfigError, commands.UnreadableError) as error:
        print(f"sipd: {error}", file=sys.stderr)
        return commands.UNUSABLE
    except KeyboardInterrupt:  # the end of --watch
        return commands.OK
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.OK


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="sipd", description="The SIP edge of Tenantry.")
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    run = verbs.add_parser(
        "run",
        help="run a node",
        description="Flags override TENANTRY_* variables and the file.",
        epilog=tuning.help_lines(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(run=run_node)
    run.add_argument("--config", metavar="FILE", help="settings in TOML, named as these flags with _ for -")
    run.add_argument(
        "--listen",
        action="append",
        metavar="TRANSPORT:ADDRESS:PORT[=HOST[:PORT]]",
        help="udp, tcp, tls, ws or wss; after = how others reach it; may be given many times",
    )
    run.add_argument("--advertise", metavar="HOST[:PORT]", help="how others reach listeners that do not say so")
    run.add_argument(
        "--tls-certificate", action="append", metavar="CHAIN[=KEY]", help="PEM; many times: chosen by server name"
    )
    run.add_argument("--tls-authorities", metavar="FILE", help="who signs PBXs' certificates; default: the system's")
    run.add_argument(
        "--tls-client-authorities", metavar="FILE", help="ask those who connect for a certificate signed by these"
    )
    run.add_argument("--tls-client-certificate", metavar="CHAIN[=KEY]", help="shown to PBXs that we connect to")
    run.add_argument(
        "--ws-origin", action="append", metavar="ORIGIN", help="take WebSockets of these pages only; default: any"
    )
    run.add_argument(
        "--dns-server",
        action="append",
        metavar="ADDRESS[:PORT]",
        help="in place of the system's; may be given many times",
    )
    run.add_argument(
        "--media",
        action="append",
        metavar="udp:ADDRESS:PORT",
        help="ng port of an rtpengine, for connections with media relay; may be given many times",
    )
    run.add_argument("--state", metavar="DIR", help="bindings, events and the last good table")
    run.add_argument("--control", metavar="PATH", help="Unix socket; default: control.sock in the state directory")
    run.add_argument("--control-tcp", metavar="ADDRESS:PORT", help="where a panel on another machine asks this node")
    run.add_argument("--control-certificate", metavar="CHAIN[=KEY]", help="PEM; what it is shown there, for TLS")
    run.add_argument("--control-plain", choices=("on", "off"), help="on: without TLS even beyond this machine")
    run.add_argument("--control-token-file", metavar="FILE")
    run.add_argument("--key-file", metavar="FILE", help="the installation's key; default: key in the state directory")
    run.add_argument("--node", metavar="NAME", help="default: the host's name")
    run.add_argument(
        "--digest", metavar="NAMES", help="what phones are challenged with, in this order; default: MD5,SHA-256"
    )
    run.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="times, rates and names; below; may be given many times"
    )
    run.add_argument(
        "--metrics", metavar="ADDRESS:PORT", help="/metrics, /healthz and /readyz over HTTP; default: none"
    )
    run.add_argument("--metrics-token-file", metavar="FILE", help="whoever asks for /metrics needs this bearer token")
    run.add_argument(
        "--drain",
        metavar="SECONDS",
        help="how long calls may go on after a signal to stop, new ones being refused; 0: not at all; default: 30",
    )
    run.add_argument("--log-level", choices=config.LEVELS)
    run.add_argument("--log-format", choices=logs.FORMATS, help="of the lines of the log; default: logfmt")
    run.add_argument(
        "--log-calls", choices=("on", "off"), help="a line for each call that begins and ends; default: off"
    )
    run.add_argument("--trace", choices=("on", "off"), help="whether calls are traced; default: on")
    run.add_argument("--trace-sample", metavar="SHARE", help="share of calls that is traced, 0 to 1; default: 1")
    run.add_argument("--trace-bodies", choices=BODIES, help="message bodies in traces; default: sdp, without its keys")
    run.add_argument("--trace-megabytes", metavar="N", help="traces on disk; 0: in memory only; default: 256")
    run.add_argument("--trace-days", metavar="N", help="age of traces on disk; default: 7")
    key = verbs.add_parser("key", help="make a key file")
    key.set_defaults(run=make_key)
    key.add_argument("file", metavar="FILE", type=Path)
    check = verbs.add_parser("check", help="print every problem of a table")
    check.set_defaults(run=lambda asked: commands.check(asked.table, asked.json))
    route = verbs.add_parser("route", help="print who gets a call from a PBX, and why")
    route.set_defaults(
        run=lambda asked: commands.route(
            asked.table, asked.source, asked.transport, asked.uri, asked.json, at=asked.at, client=asked.client
        )
    )
    for command in (check, route):
        command.add_argument("table", metavar="TABLE", help="a whole table in one JSON file, or - for standard input")
        command.add_argument("--json", action="store_true")
    route.add_argument("--source", required=True, metavar="ADDRESS[:PORT]", help="where the PBX sends from")
    route.add_argument("--transport", default="udp", choices=ARRIVALS)
    route.add_argument("--uri", required=True, metavar="URI", help="the Request-URI, such as sip:101@acme.example")
    route.add_argument("--client", default="", metavar="NAME", help="DNS name of its verified client certificate")
    route.add_argument(
        "--at",
        default="",
        metavar="TIME",
        help="ISO time of the call, in the local zone unless it names one; default: now",
    )
    seal = verbs.add_parser("seal", help="print a table written by hand, with its `plain:` passwords sealed")
    seal.set_defaults(run=lambda asked: handmade.seal_file(asked.table, key_of(asked)))
    load = asking(verbs, "load", "seal, check, and load a table written by hand into a running node", load_table)
    load.add_argument("--version", metavar="NUMBER", type=int, help="default: one more than the node's")
    for command in (seal, load):
        command.add_argument("table", metavar="TABLE", help="a whole table in one JSON file, or - for standard input")
        command.add_argument("--key-file", metavar="FILE", help="the installation's key; default: as `sipd run` has it")
    add_replay(verbs)
    add_asking(verbs)
    add_draining(verbs)
    return top


def add_replay(verbs: Verbs[argparse.ArgumentParser]) -> None:
    """`sipd replay`."""
    replay = verbs.add_parser(
        "replay",
        help="run captured requests against a table, and print what it decides",
        description="FILE is a pcap or pcapng, what sipd trace --json printed, or a text with each message behind a "
        "line `--- udp:ADDRESS:PORT` that says where it came from. No password is checked: phones are who they say.",
    )
    replay.add_argument("file", metavar="FILE")
    replay.add_argument("--table", required=True, metavar="TABLE", help="a whole table in one JSON file")
    replay.add_argument("--edge", metavar="ADDRESS", default="", help="only requests to this address")
    replay.add_argument("--explain", action="store_true", help="print each rule that was tried")
    replay.add_argument("--compare", action="store_true", help="exit with 1 when a captured answer is another")
    replay.add_argument("--json", action="store_true")
    replay.set_defaults(
        run=lambda asked: commands.replay(
            asked.file, asked.table, asked.edge, explained=asked.explain, compare=asked.compare, as_json=asked.json
        )
    )


def add_asking(verbs: Verbs[argparse.ArgumentParser]) -> None:
    """The commands that ask a running node."""
    for name in commands.PRINTERS:
        verb = asking(verbs, name, f"print the {name} of a running node", ask_node)
        verb.set_defaults(ask=name)
        verb.add_argument(
            "--watch", metavar="SECONDS", nargs="?", type=float, const=2.0, help="print it again and again"
        )
        if name not in ("status", "bans"):
            verb.add_argument("--tenant", metavar="TENANT", help="id, short name or domain")
    asking(verbs, "healthy", "exit with 0 when a running node can serve calls, with 1 and why when not", ask_healthy)
    trace = asking(verbs, "trace", "print what was said in calls, and why they went as they did", ask_trace)
    trace.add_argument("call", metavar="CALL", nargs="?", help="id of a trace, or a Call-ID; none: list the newest")
    trace.add_argument("--last", metavar="N", type=int, help="print the newest N whole")
    trace.add_argument("--tenant", metavar="TENANT", help="id, short name or domain")
    trace.add_argument("--user", metavar="ID")
    trace.add_argument("--number", metavar="TEXT", help="part of who called or was called")
    trace.add_argument("--code", metavar="CODE", type=int, help="status, such as 404, or class, such as 4")
    trace.add_argument("--since", metavar="TIME", help='10m, 2h, 3d, or "2026-01-31 08:00"')
    trace.add_argument("--kind", choices=KINDS)
    trace.add_argument("--limit", metavar="N", type=int, default=20, help="lines of the list; default: 20")
    trace.add_argument("--full", action="store_true", help="print the messages as well")
    unban = asking(verbs, "unban", "lift the ban of a source", ask_unban)
    unban.add_argument("source", metavar="ADDRESS", help="as sipd bans prints it, or an address in it")
    hangup = asking(verbs, "hangup", "end a call in progress", ask_hangup)
    hangup.add_argument("call", metavar="CALL", help="its id, or the Call-ID of one of its legs")
    hangup.add_argument("--code", metavar="CODE", type=int, help="what a caller hears who is not answered yet")
    hangup.add_argument("--reason", metavar="TEXT")
    hangup.add_argument("--tenant", metavar="TENANT", help="only if it is this tenant's")


def add_draining(verbs: Verbs[argparse.ArgumentParser]) -> None:
    """`sipd drain` and `sipd resume`."""
    drain = asking(verbs, "drain", "have a running node refuse new calls", ask_drain)
    drain.add_argument("--seconds", metavar="N", type=int, help="hang up then what is left; default: calls go on")
    drain.set_defaults(ask="drain")
    asking(verbs, "resume", "have it take new calls again", ask_drain).set_defaults(ask="resume", seconds=None)


def asking(
    verbs: Verbs[argparse.ArgumentParser], name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A command that finds the node's control socket as `sipd run` does."""
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(run=run)
    verb.add_argument("--control", metavar="PATH", help="Unix socket; default: that of `sipd run` with these settings")
    verb.add_argument("--state", metavar="DIR")
    verb.add_argument("--config", metavar="FILE")
    verb.add_argument("--json", action="store_true")
    return verb


def run_node(asked: argparse.Namespace) -> int:
    """`sipd run`."""
    settings = config.load(vars(asked), os.environ)
    logs.start(settings.log_level, settings.log_format)
    cipher = AESSIV(config.read_key(settings.key_file))
    asyncio.run(serve(Daemon(settings, cipher, Edge)))
    return commands.OK


async def serve(daemon: Daemon) -> None:
    """Run until a signal."""
    daemon.stop_at_signals()
    await daemon.run()


def make_key(asked: argparse.Namespace) -> int:
    """`sipd key`."""
    config.write_key(asked.file)
    print(f"New key in {asked.file}. The panel and all nodes of an installation use the same one; keep a copy.")
    return commands.OK


def load_table(asked: argparse.Namespace) -> int:
    """`sipd load`."""
    control = config.find_control(vars(asked), os.environ)
    return handmade.load_file(asked.table, key_of(asked), control, asked.version)


def key_of(asked: argparse.Namespace) -> handmade.OpenCipher:
    """The installation's key, where `sipd run` with these settings has it."""
    return lambda: AESSIV(config.read_key(config.find_key(vars(asked), os.environ)))


def ask(asked: argparse.Namespace, request: commands.Doc) -> commands.Doc:
    """One request to the node that the flags, the environment or the file name."""
    if getattr(asked, "tenant", None) is not None:
        request["tenant_name"] = asked.tenant
    return commands.ask(config.find_control(vars(asked), os.environ), request)


def ask_node(asked: argparse.Namespace) -> int:
    """`sipd status`, `registrations`, `calls` and `bans`."""
    while True:
        answer = ask(asked, {"do": asked.ask})
        if asked.watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        if asked.json:
            commands.print_json(answer, sys.stdout)
        else:
            commands.PRINTERS[asked.ask](answer)
        if not asked.watch:
            return commands.OK
        sys.stdout.flush()
        time.sleep(max(0.2, asked.watch))


def ask_healthy(asked: argparse.Namespace) -> int:
    """`sipd healthy`."""
    return commands.healthy(ask(asked, {"do": "status"}), asked.json)


def ask_trace(asked: argparse.Namespace) -> int:
    """`sipd trace`: one whole, the newest ones whole, or a list."""
    if asked.call:
        names = [asked.call]
    else:
        answer = ask(asked, listed(asked))
        if asked.last is None:
            if asked.json:
                commands.print_json(answer, sys.stdout)
            else:
                commands.traces(answer)
            return commands.OK
        names = [about["id"] for about in reversed(answer["traces"])]
    found = [ask(asked, {"do": "trace", "trace": name}) for name in names]
    if asked.json:
        commands.print_json(found[0]["trace"] if asked.call else [answer["trace"] for answer in found], sys.stdout)
        return commands.OK
    for number, answer in enumerate(found):
        if number:
            print()
        commands.trace(answer, asked.full)
    return commands.OK


def listed(asked: argparse.Namespace) -> commands.Doc:
    """The request for a list of traces."""
    request: commands.Doc = {"do": "traces", "limit": asked.last if asked.last is not None else asked.limit}
    for name in ("user", "number", "code", "kind"):
        if getattr(asked, name) is not None:
            request[name] = getattr(asked, name)
    if asked.since is not None:
        request["since"] = commands.parse_since(asked.since, time.time())
    return request


def ask_unban(asked: argparse.Namespace) -> int:
    """`sipd unban`: 1 when there is no such ban."""
    answer = ask(asked, {"do": "unban", "source": asked.source})
    if asked.json:
        commands.print_json(answer, sys.stdout)
    elif answer["unbanned"]:
        print(f"{commands.cell('source', asked.source)} is not banned any more.")
    else:
        print(f"{commands.cell('source', asked.source)} is not banned; sipd bans lists who is.")
    return commands.OK if answer["unbanned"] else commands.WITH_ERRORS


def ask_hangup(asked: argparse.Namespace) -> int:
    """`sipd hangup`."""
    request: commands.Doc = {"do": "hangup", "call": asked.call}
    for name in ("code", "reason"):
        if getattr(asked, name) is not None:
            request[name] = getattr(asked, name)
    answer = ask(asked, request)
    if asked.json:
        commands.print_json(answer, sys.stdout)
    else:
        print(f"Call {commands.cell('call', answer['call'])} is ended.")
    return commands.OK


def ask_drain(asked: argparse.Namespace) -> int:
    """`sipd drain` and `sipd resume`."""
    answer = ask(asked, {"do": asked.ask, **({} if asked.seconds is None else {"seconds": asked.seconds})})
    if asked.json:
        commands.print_json(answer, sys.stdout)
    else:
        print(commands.draining(answer))
    return commands.OK


if __name__ == "__main__":
    sys.exit(main())
