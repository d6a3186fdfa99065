"""The files of others in the tree are the ones their record names, byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "static" / "vendor" / "VENDORED.md"
ROW = re.compile(
    r"^\| `(?P<path>[^`]+)` \| (?P<package>\S+) \| (?P<version>\S+) \| (?P<licence>\S+) \| `(?P<sum>\w+)` \|$"
)
ROWS = [match.groupdict() for line in RECORD.read_text("utf-8").splitlines() if (match := ROW.match(line))]
SPRITE = ROOT / "static" / "icons.svg"


def test_the_record_is_not_empty() -> None:
    assert {"static/vendor/htmx.min.js", "static/icons.svg", "tests/vendor/axe.min.js"} <= {row["path"] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_a_vendored_file_has_the_recorded_checksum_and_the_pinned_version(row: dict[str, str]) -> None:
    pinned = json.loads((ROOT / "package.json").read_text("utf-8"))["devDependencies"]
    assert hashlib.sha256((ROOT / row["path"]).read_bytes()).hexdigest() == row["sum"]
    assert pinned[row["package"]] == row["version"]


def test_every_file_in_the_vendor_folders_is_recorded() -> None:
    recorded = {row["path"] for row in ROWS}
    folders = (ROOT / "static" / "vendor", ROOT / "tests" / "vendor")
    present = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert present - recorded == {"static/vendor/VENDORED.md"}


def test_every_package_ships_its_licence() -> None:
    for name in ("htmx", "geist", "geist-mono", "lucide"):
        assert len((ROOT / "static" / "vendor" / "licences" / f"{name}.txt").read_text("utf-8")) > 300, name


def test_every_icon_a_template_names_is_in_the_sprite() -> None:
    drawn = {symbol.attrib["id"] for symbol in ET.parse(SPRITE).getroot()}
    used: dict[str, str] = {}
    for template in (ROOT / "templates").rglob("*.html"):
        for name in re.findall(r"""\bicon\(\s*['"]([a-z0-9-]+)['"]""", template.read_text("utf-8")):
            used[name] = template.name
    assert used, "no icon found: the pattern no longer fits the macro"
    assert {name: where for name, where in used.items() if name not in drawn} == {}
