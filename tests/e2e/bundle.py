"""JsSIP for a page, put together from node_modules at test time: its files are CommonJS, which browsers do not load."""

from __future__ import annotations

import json
import re
from pathlib import Path

MODULES = Path(__file__).parents[2] / "node_modules"
REQUIRED = re.compile(r"""\brequire\(\s*["']([^"']+)["']\s*\)""")
NODE_ONLY = frozenset(("tty", "util", "supports-color", "./node.js"))
"""What `debug` asks for outside of browsers."""
LOADER = """
const files = {}, loaded = {};
function load(name) {
  if (!(name in loaded)) {
    const module = loaded[name] = { exports: {} };
    files[name].code(module, module.exports, (wanted) => load(files[name].names[wanted]));
  }
  return loaded[name].exports;
}
"""


def resolve(wanted: str, beside: Path) -> Path:
    """The file that `require(wanted)` means in a browser."""
    if not wanted.startswith("."):
        package = MODULES / wanted
        described = json.loads((package / "package.json").read_text())
        browser = described.get("browser")
        wanted, beside = browser if isinstance(browser, str) else described.get("main", "index.js"), package
    path = (beside / wanted).resolve()
    for candidate in (path, Path(f"{path}.js"), path / "index.js"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{wanted} beside {beside}")


def bundle(package: str) -> str:
    """One script that defines `load`, which gives the packages by name."""
    first = resolve(package, MODULES)
    waiting, parts = [first], {}
    while waiting:
        path = waiting.pop()
        if str(path) in parts:
            continue
        source = path.read_text()
        if path.suffix == ".json":
            source, names = f"module.exports = {source}", {}
        else:
            names = {wanted: resolve(wanted, path.parent) for wanted in set(REQUIRED.findall(source)) - NODE_ONLY}
        waiting += names.values()
        code = f"function (module, exports, require) {{\n{source}\n}}"
        known = json.dumps({wanted: str(found) for wanted, found in names.items()})
        parts[str(path)] = f"files[{json.dumps(str(path))}] = {{ names: {known}, code: {code} }};"
    name = f"files[{json.dumps(package)}] = files[{json.dumps(str(first))}];"
    return "\n".join([LOADER, *parts.values(), name])
