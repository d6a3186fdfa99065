"""Copy the browser files we ship out of an npm install, at the exact versions of package.json.

Run by a developer who changes a version, never by the application, its tests or CI:

    python scripts/vendor_assets.py

It installs into a temporary directory, copies the named files, builds the icon sprite and writes
static/vendor/VENDORED.md with version, licence and SHA-256 of each file. tests/house checks that table.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
SPRITE = ROOT / "static" / "icons.svg"
RECORD = VENDOR / "VENDORED.md"
SVG = "http://www.w3.org/2000/svg"


class Copied(NamedTuple):
    """One file taken over unchanged: which package, which path in it, where it lands below the project root."""

    package: str
    source: str
    target: str


# Fonts are asked for by the stylesheet, without the ?v= of asset(): their version is in the name.
COPIED = (
    Copied("htmx.org", "dist/htmx.min.js", "static/vendor/htmx.min.js"),
    Copied("htmx.org", "dist/ext/hx-csp.min.js", "static/vendor/hx-csp.min.js"),
    Copied(
        "@fontsource-variable/geist", "files/geist-latin-wght-normal.woff2", "static/vendor/geist-5.3.0-latin.woff2"
    ),
    Copied(
        "@fontsource-variable/geist",
        "files/geist-latin-ext-wght-normal.woff2",
        "static/vendor/geist-5.3.0-latin-ext.woff2",
    ),
    Copied(
        "@fontsource-variable/geist-mono",
        "files/geist-mono-latin-wght-normal.woff2",
        "static/vendor/geist-mono-5.3.0-latin.woff2",
    ),
    Copied(
        "@fontsource-variable/geist-mono",
        "files/geist-mono-latin-ext-wght-normal.woff2",
        "static/vendor/geist-mono-5.3.0-latin-ext.woff2",
    ),
    Copied("htmx.org", "LICENSE", "static/vendor/licences/htmx.txt"),
    Copied("@fontsource-variable/geist", "LICENSE", "static/vendor/licences/geist.txt"),
    Copied("@fontsource-variable/geist-mono", "LICENSE", "static/vendor/licences/geist-mono.txt"),
    Copied("lucide-static", "LICENSE", "static/vendor/licences/lucide.txt"),
    Copied("axe-core", "axe.min.js", "tests/vendor/axe.min.js"),
    Copied("axe-core", "LICENSE", "tests/vendor/axe-LICENSE.txt"),
)

ICON_NAMES = """
activity archive arrow-left arrow-right ban bell calendar check chevron-down chevron-left chevron-right chevron-up
circle-alert circle-check circle-help circle-pause circle-x clock copy download ellipsis external-link eye eye-off
file-text filter flask-conical globe history hourglass inbox info key key-round layers layout-dashboard link list
loader-circle lock log-out mail mail-check mail-plus mail-warning mail-x menu minus monitor moon paperclip pencil plug
plus power refresh-cw repeat rotate-ccw save scroll-text search send server settings shield-alert shield-check store
sun terminal timer trash-2 triangle-alert undo-2 unplug upload user users wifi-off x zap
"""

# Drawn here, plain enough to say whose service is meant. Colours are their owners' own.
MARKS = {
    "mark-microsoft": (
        '<g stroke="none"><path fill="#f25022" d="M3 3h8.5v8.5H3z"/><path fill="#7fba00" d="M12.5 3H21v8.5h-8.5z"/>'
        '<path fill="#00a4ef" d="M3 12.5h8.5V21H3z"/><path fill="#ffb900" d="M12.5 12.5H21V21h-8.5z"/></g>'
    ),
    "mark-google": (
        '<g fill="none" stroke-width="3.6" stroke-linecap="butt">'
        '<path stroke="#ea4335" d="M18.2 7.1A8 8 0 0 0 5 8.2"/><path stroke="#fbbc04" d="M5.1 8a8 8 0 0 0 0 8"/>'
        '<path stroke="#34a853" d="M5 15.800a8 8 0 0 0 12.500 2"/>'
        '<path stroke="#4285f4" d="M12.300 12H20a8 8 0 0 1-2.600 5.900"/></g>'
    ),
    "mark-sandbox": (
        '<g fill="none" stroke="#0e9f8e" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<path fill="#0e9f8e" fill-opacity=".25" d="M6.700 15h10.600l2.200 4.400a1.100 1.100 0 0 1-1 1.600h-13'
        'a1.100 1.100 0 0 1-1-1.600z"/><path d="M10 3v6.500L4.500 19.400a1.100 1.100 0 0 0 1 1.600h13'
        'a1.100 1.100 0 0 0 1-1.600L14 9.500V3"/><path d="M8.500 3h7"/></g>'
    ),
}


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(into: Path) -> Path:
    """The node_modules directory of a fresh install of package.json below `into`. Raises CalledProcessError."""
    shutil.copy(ROOT / "package.json", into)
    command = ["npm", "install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=into, check=True, timeout=300)
    return into / "node_modules"


def symbol(name: str, svg: str) -> str:
    """One `<symbol>` with the drawing of a Lucide file, without its own size, class and stroke attributes."""
    inner = "".join(ET.tostring(child, encoding="unicode") for child in ET.fromstring(svg))
    inner = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", inner).replace("ns0:", "").replace(" />", "/>")
    inner = re.sub(r">\s+<", "><", inner.strip())
    return f'<symbol id="{name}" viewBox="0 0 24 24">{inner}</symbol>'


def build_sprite(icons: Path) -> str:
    """The sprite: one symbol an icon, id = Lucide's name, then our provider marks as `mark-*`."""
    drawn = [symbol(name, (icons / f"{name}.svg").read_text("utf-8")) for name in sorted(ICON_NAMES.split())]
    marks = [f'<symbol id="{name}" viewBox="0 0 24 24">{drawing}</symbol>' for name, drawing in MARKS.items()]
    return "\n".join([f'<svg xmlns="{SVG}">', *drawn, *marks, "</svg>"]) + "\n"


def describe(modules: Path) -> str:
    """VENDORED.md: one table row a file with package, version, licence and SHA-256."""

    def row(package: str, target: str) -> str:
        about = json.loads((modules / package / "package.json").read_text("utf-8"))
        return f"| `{target}` | {package} | {about['version']} | {about['license']} | `{sha256(ROOT / target)}` |"

    rows = [row(copied.package, copied.target) for copied in COPIED]
    rows.append(row("lucide-static", "static/icons.svg"))
    head = [
        "# Files of others in this tree",
        "",
        "Written by `scripts/vendor_assets.py`; do not edit. Versions are pinned in `package.json`.",
        "`static/icons.svg` holds drawings of Lucide as one sprite; its `mark-*` symbols are our own.",
        "`tests/vendor/` is used by tests only and never served.",
        "",
        "| file | package | version | licence | sha256 |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    """Install, copy, draw the sprite, write the record."""
    with tempfile.TemporaryDirectory() as directory:
        modules = install(Path(directory))
        for package, source, target in COPIED:
            (ROOT / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(modules / package / source, ROOT / target)
        SPRITE.write_text(build_sprite(modules / "lucide-static" / "icons"), "utf-8")
        RECORD.write_text(describe(modules), "utf-8")
    print(f"{len(COPIED)} files and {len(ICON_NAMES.split())} icons written; see {RECORD.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
