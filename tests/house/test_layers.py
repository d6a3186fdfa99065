"""Which room may import which: the table of the house, read from the code itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {
    "app", "blueprints", "cli", "config", "extensions", "ground", "mail", "models", "relay", "sandbox", "security",
    "start_worker", "worker",
}  # fmt: skip

# room → which of our rooms it may import, and which third-party packages it must not
MAY_IMPORT = {
    "config": set(),
    "extensions": set(),
    "security": {"security"},
    "models": {"models", "extensions"},
    "mail": {"mail", "models", "security", "extensions"},
    "blueprints": {"blueprints", "mail", "models", "extensions", "config"},
    "ground": {"config", "mail", "models", "security", "extensions"},
    "worker": {"mail", "models", "extensions"},
    "start_worker": {"config", "ground", "worker"},
    "relay": {"relay", "mail", "models", "extensions"},
    "sandbox": {"sandbox"},
}
MUST_NOT_IMPORT = {
    "config": {"flask", "sqlalchemy", "requests", "cryptography"},
    "security": {"flask", "sqlalchemy", "wtforms"},
    "models": {"flask", "wtforms", "requests", "cryptography"},
    "mail": {"flask", "flask_wtf", "wtforms", "flask_login", "flask_security", "smtplib"},
    "relay": {"wtforms", "smtplib", "requests", "cryptography"},
    "blueprints": {"smtplib", "socket", "ssl", "requests", "cryptography"},
}


def _modules() -> list[Path]:
    found = [ROOT / f"{name}.py" for name in sorted(OURS) if (ROOT / f"{name}.py").exists()]
    for name in sorted(OURS):
        found += sorted((ROOT / name).rglob("*.py"))
    return found


def _imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", _modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_it_imports_only_what_its_room_may(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0].removesuffix(".py")
    imports = _imports(file)
    if room in MAY_IMPORT:
        assert not (imports & OURS) - MAY_IMPORT[room], f"{room} may not import these rooms"
    assert not imports & MUST_NOT_IMPORT.get(room, set()), f"{room} may not use these packages"
    assert "tests" not in imports


def test_top_level_names_hide_no_module_of_the_standard_library() -> None:
    assert not OURS & set(sys.stdlib_module_names)


def test_smtp_and_compose_know_no_database() -> None:
    alone = ("compose.py", "relayed.py", "mime.py", "signatures.py", "explain.py", "errors.py")
    rooms = [file for room in ("smtp", "providers") for file in sorted((ROOT / "mail" / room).glob("*.py"))]
    for file in (*(ROOT / "mail" / name for name in alone), *rooms):
        assert not _imports(file) & {"models", "extensions", "sqlalchemy"}, file
