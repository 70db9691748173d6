"""What all tests share: markers by folder, no socket in unit tests, and no skip that nobody sees.

A test that needs a program says so: `@pytest.mark.needs("kamailio", "sipp")`. Where it is missing the
test is skipped, and the summary names the Debian package; with CI in the environment it fails instead.
So does any other skip, unless `allowed-skips.txt` lists it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_socket
from hypothesis import settings

HERE = Path(__file__).parent
CI = bool(os.environ.get("CI"))
KINDS = ("integration", "e2e")
"""Folders with a marker of their own; what is elsewhere is a unit test."""
PACKAGE_OF = {
    "sipp": "sip-tester",
    "linphone-daemon": "linphone-cli",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "psql": "postgresql-client",
}
"""Debian package of a program, where the names differ."""
BESIDE_PATH = ("/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
"""Debian keeps these out of an ordinary user's PATH."""

settings.register_profile("shared-machine", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if CI else "shared-machine")


def program(name: str) -> str | None:
    """Where `name` is installed."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *BESIDE_PATH]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last, because the browser's driver keeps an event loop in the test's thread until the end of the session.
    items.sort(key=lambda item: item.path.is_relative_to(HERE / "e2e"))
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        item.add_marker(folder if folder in KINDS else "unit")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in needed if program(name) is None]
    if missing:
        packages = " ".join(sorted({PACKAGE_OF.get(name, name) for name in missing}))
        reason = f"missing: {', '.join(missing)} (Debian: apt-get install {packages})"
        if CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_socket_in_unit_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Unix socket pair is what an event loop is made of; nothing else opens."""
    if request.node.get_closest_marker("unit") is None:
        yield
        return
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The system's Chromium; root, as in a container, has no sandbox."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    return {**browser_type_launch_args, "executable_path": program("chromium"), "args": sandbox}


def skipped(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", []) if reporter else []


def unlisted_skips(config: pytest.Config) -> list[str]:
    """Node ids of skipped tests that `allowed-skips.txt` does not begin to name."""
    lines = (HERE / "allowed-skips.txt").read_text().splitlines()
    allowed = tuple(line.split("  #")[0].strip() for line in lines if line and not line.startswith("#"))
    return [report.nodeid for report in skipped(config) if not (allowed and report.nodeid.startswith(allowed))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if CI and (names := unlisted_skips(config)):
        terminalreporter.section("skipped in CI without being listed in tests/allowed-skips.txt", red=True)
        terminalreporter.write_line("\n".join(names))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if CI and session.exitstatus == pytest.ExitCode.OK and unlisted_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
