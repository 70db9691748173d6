"""docs/operators.md tells every flag, setting, variable and command that there is, and its contents lead somewhere."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from sipd import tuning
from sipd.__main__ import parser
from sipd.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


def verbs() -> dict[str, argparse.ArgumentParser]:
    [found] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def flags() -> list[str]:
    return [
        flag for action in verbs()["run"]._actions for flag in action.option_strings if flag not in ("-h", "--help")
    ]


@pytest.mark.parametrize("name", [*tuning.NUMBERS, "user_agent"])
def test_each_name_of_set_has_its_default_in_a_row(name: str) -> None:
    [(names, defaults)] = re.findall(rf"^\| ([^|]*`{name}`[^|]*) \| ([^|]*) \|", TEXT, re.MULTILINE)
    default = defaults.split(", ")[names.split(", ").index(f"`{name}`")].strip("`")
    assert default == str(getattr(Settings(()), name)).removesuffix(".0")


@pytest.mark.parametrize("flag", flags())
def test_each_flag_of_sipd_run_is_told(flag: str) -> None:
    assert f"`{flag}`" in TEXT


@pytest.mark.parametrize("verb", verbs())
def test_each_command_of_sipd_is_told(verb: str) -> None:
    assert re.search(rf"\bsipd {verb}\b", TEXT)


@pytest.mark.parametrize("file", ["panel/config.py", "ops/gunicorn.conf.py"])
def test_each_variable_of_the_panel_is_told(file: str) -> None:
    read = set(re.findall(r'"(TENANTRY_[A-Z_]+)"', (ROOT / file).read_text(encoding="utf-8")))
    assert read
    assert [name for name in sorted(read) if f"`{name}`" not in TEXT] == []


def test_the_contents_name_each_section_in_order() -> None:
    head = TEXT[: TEXT.index("\n## ")]
    assert re.findall(r"\[([^]]+)\]\(#", head) == re.findall(r"^## (.*)$", TEXT, re.MULTILINE)


def test_links_within_the_page_lead_to_a_heading() -> None:
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
