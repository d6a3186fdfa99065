"""Programs the tests use, wherever this machine keeps them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
OIDC = HERE / "oidc"


def chromium() -> str | None:
    """The Chromium to drive: the system's, without a window if it can be had, else Playwright's own."""
    if shell := headless_shell():
        return shell
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return _of_playwright(
        "chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium"
    )


def headless_shell() -> str | None:
    """Chromium as a program of its own that can only run without a window."""
    return shutil.which("chromium-headless-shell") or _of_playwright(
        "chromium_headless_shell-*/chrome-*/headless_shell", "chromium_headless_shell-*/chrome-*/chrome-headless-shell"
    )


def _of_playwright(*patterns: str) -> str | None:
    """The newest of what Playwright installed for this user."""
    for cache in (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright"):
        for pattern in patterns:
            if found := sorted(cache.glob(pattern)):
                return str(found[-1])
    return None


def postgres_bin() -> Path | None:
    """The folder with initdb and postgres."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        candidates.append(Path(found).parent)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def faketime() -> Path | None:
    """The library that gives a process another clock (libfaketime), in its form for programs with threads."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def postfix() -> str | None:
    """The postfix command, where there is one that we may use: its master starts as root and works as its own user."""
    try:
        pwd.getpwnam("postfix")
    except KeyError:
        return None
    # An ordinary person's PATH does not have the sbin folders.
    found = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found if os.geteuid() == 0 else None


def swaks() -> str | None:
    """The Swiss Army Knife for SMTP."""
    return shutil.which("swaks")


def nodemailer() -> str | None:
    """The folder that Node.js finds Nodemailer in: the system's, else that of the benchmarks."""
    if shutil.which("node") is None:
        return None
    for folder in (Path("/usr/share/nodejs"), HERE.parents[1] / "bench" / "peers" / "node_modules"):
        if (folder / "nodemailer").is_dir():
            return str(folder)
    return None


def phpmailer() -> str | None:
    """PHPMailer's autoload.php, where there is a PHP to run it."""
    found = Path("/usr/share/php/libphp-phpmailer/autoload.php")
    return str(found) if shutil.which("php") and found.exists() else None


def oidc_provider() -> str | None:
    """Node.js, where the certified authorization server is installed in the pinned version."""
    try:
        wanted = json.loads((OIDC / "package.json").read_text())["devDependencies"]["oidc-provider"]
        found = json.loads((OIDC / "node_modules" / "oidc-provider" / "package.json").read_text())["version"]
    except OSError:
        return None
    return shutil.which("node") if found == wanted else None
