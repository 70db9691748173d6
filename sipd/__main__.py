"""Command line of the edge: `python -m sipd run`, and commands that check tables and ask a running node."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd import commands, config
from sipd.daemon import Daemon
from sipd.edge import Edge

ARRIVALS = ("udp", "tcp", "tls")
"""Over what a PBX's request may come."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. 2: it could not be done, and standard error says why."""
    asked = parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except (config.ConfigError, commands.UnreadableError) as error:
        print(f"sipd: {error}", file=sys.stderr)
        return commands.UNUSABLE
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.OK


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="sipd", description="The SIP edge of Tenantry.")
    verbs = top.add_subparsers(required=True, metavar="COMMAND")
    run = verbs.add_parser("run", help="run a node", description="Flags override TENANTRY_* variables and the file.")
    run.set_defaults(run=run_node)
    run.add_argument("--config", metavar="FILE", help="settings in TOML, named as these flags with _ for -")
    run.add_argument("--listen", action="append", metavar="TRANSPORT:ADDRESS:PORT", help="may be given many times")
    run.add_argument("--advertise", metavar="HOST[:PORT]", help="how others reach this node")
    run.add_argument("--state", metavar="DIR", help="bindings, events and the last good table")
    run.add_argument("--control", metavar="PATH", help="Unix socket; default: control.sock in the state directory")
    run.add_argument("--control-tcp", metavar="ADDRESS:PORT")
    run.add_argument("--control-token-file", metavar="FILE")
    run.add_argument("--key-file", metavar="FILE", help="the installation's key; default: key in the state directory")
    run.add_argument("--node", metavar="NAME", help="default: the host's name")
    run.add_argument(
        "--digest", metavar="NAMES", help="what phones are challenged with, in this order; default: MD5,SHA-256"
    )
    run.add_argument("--log-level", choices=config.LEVELS)
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
    for name in commands.PRINTERS:
        verb = verbs.add_parser(name, help=f"print the {name} of a running node")
        verb.set_defaults(run=ask_node, ask=name)
        verb.add_argument("--control", required=True, metavar="PATH", type=Path)
        verb.add_argument("--json", action="store_true")
    return top


def run_node(asked: argparse.Namespace) -> int:
    """`sipd run`."""
    settings = config.load(vars(asked), os.environ)
    start_log(settings.log_level)
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


def ask_node(asked: argparse.Namespace) -> int:
    """`sipd status`, `registrations` and `calls`."""
    answer = commands.ask(asked.control, {"do": asked.ask})
    if asked.json:
        commands.print_json(answer, sys.stdout)
    else:
        commands.PRINTERS[asked.ask](answer)
    return commands.OK


class LineFormatter(logging.Formatter):
    """`key=value` lines in UTC; a message is `what happened key=value ...`, and stays on its line."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        message = "".join(c if c.isprintable() else "?" for c in record.getMessage())
        line = f"at={at}.{int(record.msecs):03d}Z level={record.levelname.lower()} from={record.name} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def start_log(level: str) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
