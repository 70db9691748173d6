"""Page templates compile, are small, and stay within the content security policy and CSRF rules.

No inline script or style, no `on...` or `style` attribute, no `hx-on` (it needs eval). A form that changes
something carries a CSRF token. Templates for Kamailio only have to compile.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateSyntaxError
from jinja2.exceptions import TemplateAssertionError

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
MAX_LINES = 80
JINJA = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
LIBRARY = "macros.html"
"""The pieces that pages are made of; it is as long as they are many."""
INCLUDE = re.compile(r"""\{%-?\s*include\s+["']([^"']+)["']""")
TOKENS = ("csrf_token", "csrf()")
CHANGES = ("post", "put", "patch", "delete")


def without_jinja(source: str) -> str:
    """The same lines with nothing of Jinja in them; what stands for a value is an `x`."""
    return JINJA.sub(lambda tag: ("x" if tag[0].startswith("{{") else "") + "\n" * tag[0].count("\n"), source)


class Page(HTMLParser):
    """Collects what is forbidden, with its line."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.lines = source.splitlines()
        self.form: int | None = None
        self.feed(without_jinja(source))

    def problem(self, sentence: str, line: int | None = None) -> None:
        self.problems.append(f"{line or self.getpos()[0]}: {sentence}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "style" or (tag == "script" and "src" not in given):
            self.problem(f"<{tag}> inline; put it into a file under panel/static")
        for name in given:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.problem(f"attribute {name}: the content security policy does not let it work")
        if tag == "form" and is_changing(given):
            self.form = self.getpos()[0]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self.form is not None:
            body = "\n".join(self.lines[self.form - 1 : self.getpos()[0]])
            if not any(token in part for part in (body, *included(body)) for token in TOKENS):
                self.problem("form without a CSRF token", self.form)
            self.form = None


def included(source: str) -> Iterator[str]:
    """What a template includes by name, and what that includes."""
    for name in INCLUDE.findall(source):
        part = (TEMPLATES / name).read_text()
        yield part
        yield from included(part)


def is_changing(attributes: dict[str, str]) -> bool:
    return attributes.get("method", "get").lower() != "get" or any(f"hx-{verb}" in attributes for verb in CHANGES)


def check_page(source: str, name: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > MAX_LINES and name != LIBRARY:
        yield f"1: {lines} lines; {MAX_LINES} is the limit, include a part instead"
    page = Page(source)
    page.close()
    yield from page.problems


def page_environment() -> Environment:
    """The panel's own, with its filters and globals."""
    from panel.app import create_app
    from panel.config import from_env

    with TemporaryDirectory() as folder:
        return create_app(from_env({"TENANTRY_STATE_DIR": folder})).jinja_env


def kamailio_environment() -> Environment:
    return Environment(  # noqa: S701  Kamailio's configuration is no HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, line_statement_prefix="#%"
    )


def compile_error(environment: Environment, source: str) -> Iterator[str]:
    try:
        environment.compile(source)
    except (TemplateSyntaxError, TemplateAssertionError) as error:
        yield f"{error.lineno}: {error.message}"


def main() -> int:
    """Print every problem."""
    found: list[str] = []
    pages, kamailio = sorted(TEMPLATES.rglob("*.html")), sorted(TEMPLATES.glob("kamailio/**/*.j2"))
    environments = [(page_environment(), pages)] if pages else []
    environments += [(kamailio_environment(), kamailio)] if kamailio else []
    for environment, paths in environments:
        for path in paths:
            source = path.read_text()
            problems = [*compile_error(environment, source), *(check_page(source, path.name) if path in pages else ())]
            found += [f"{path.relative_to(ROOT)}:{problem}" for problem in problems]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
