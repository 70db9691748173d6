"""The command `tenantry`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from panel import migrate
from panel.cli import cli
from panel.db import make_engine


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "KEY_FILE", "BASE_URL", "PLATFORM_DOMAIN"):
        monkeypatch.delenv(f"TENANTRY_{name}", raising=False)
    monkeypatch.setenv("TENANTRY_STATE_DIR", str(tmp_path))
    return tmp_path


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, words, input=stdin)


def done(*words: str, stdin: str = "") -> str:
    result = run(*words, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_database_is_brought_up_and_down(state: Path) -> None:
    assert run("db", "check").exit_code == 1
    assert "up to date" in done("db", "upgrade")
    assert "up to date" in done("db", "check")
    done("db", "downgrade", "base")
    engine = make_engine(f"sqlite:///{state / 'tenantry.db'}")
    assert not migrate.is_current(engine)
    engine.dispose()


def test_the_set_up_link_is_printed_until_there_is_an_account(state: Path) -> None:
    done("db", "upgrade")
    first, second = done("setup-link"), done("setup-link")
    assert first.startswith("http://127.0.0.1:8000/setup/")
    assert first != second
    done("seed")
    assert "no link is needed" in done("setup-link")


def test_the_cast_is_seeded_once(state: Path) -> None:
    done("db", "upgrade")
    first, second = done("seed"), done("seed")
    passwords = [line.split()[1] for line in first.splitlines()[1:]]
    assert [line.split()[0].split("@")[0] for line in first.splitlines()[1:]] == ["root", "alice", "bob", "carol"]
    assert len(set(passwords)) == 4
    assert all(len(password) >= 12 for password in passwords)
    assert second.count("(password unchanged)") == 4


def test_a_shell_sees_everything(state: Path) -> None:
    done("db", "upgrade")
    done("seed")
    output = done("shell", stdin="print(sorted(session.exec(select(Tenant.slug)).all()))\n")
    assert "['acme', 'globex']" in output


def test_a_setting_that_cannot_be_used_is_told_in_one_line(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from panel import cli as module

    monkeypatch.setenv("TENANTRY_BASE_URL", "nonsense")
    monkeypatch.setattr("sys.argv", ["tenantry", "db", "check"])
    with pytest.raises(SystemExit, match=r"^tenantry: TENANTRY_BASE_URL is 'nonsense'"):
        module.main()
