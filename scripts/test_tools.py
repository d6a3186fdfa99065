"""What the tests need beside Python packages: Chromium, servers, and clients of the relay. Installs what it can.

As root on Debian or Ubuntu from the system's packages; elsewhere Chromium by Playwright. What stays missing is said
loudly; in CI everything must be there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fakes import tools

# Chromium without what it does for people who sit before it: half the work. Where it is no package, Chromium does.
HEADLESS = "Chromium’s headless shell"
PACKAGES = {
    HEADLESS: ("chromium-headless-shell",),
    "Chromium": ("chromium",),
    "PostgreSQL": ("postgresql",),
    "Redis": ("redis-server",),
    "Postfix": ("postfix",),
    "libfaketime": ("libfaketime",),
    # Clients of the relay, as applications use them.
    "swaks": ("swaks", "libnet-ssleay-perl"),
    "Nodemailer": ("nodejs", "node-nodemailer"),
    "PHPMailer": ("php-cli", "libphp-phpmailer"),
    "oidc-provider": ("nodejs", "npm"),
}
# Answers to what packages ask while they are installed. Postfix is not to become this machine's mail server.
PRESEED = "postfix postfix/main_mailer_type select No configuration\n"


def missing() -> list[str]:
    """What must be there and is not."""
    found = {
        "Chromium": tools.chromium(),
        "PostgreSQL": tools.postgres_bin(),
        "Redis": shutil.which("redis-server"),
        "Postfix": tools.postfix(),
        "libfaketime": tools.faketime(),
        "swaks": tools.swaks(),
        "Nodemailer": tools.nodemailer(),
        "PHPMailer": tools.phpmailer(),
        "oidc-provider": tools.oidc_provider(),
    }
    return [name for name, path in found.items() if path is None]


def install(names: list[str]) -> None:
    install_programs(names)
    if "oidc-provider" in names and (npm := shutil.which("npm")):
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=tools.OIDC, check=False, stdout=subprocess.DEVNULL)


def install_programs(names: list[str]) -> None:
    if _has_packages():
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, stdout=subprocess.DEVNULL)
        # Servers that the packages would start are of no use: the tests run their own, on free ports.
        policy = Path("/usr/sbin/policy-rc.d")
        made = not policy.exists()
        if made:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            if "Postfix" in names:
                subprocess.run(["debconf-set-selections"], input=PRESEED, text=True, env=environment, check=False)
            for name in names:
                if name == "oidc-provider" and shutil.which("npm") and shutil.which("node"):
                    continue
                if name == "Chromium" and tools.chromium():
                    continue
                # One by one, so that one that cannot be had spares the others; never in exchange for what is there,
                # as Postfix would replace a machine's own mail server.
                subprocess.run(
                    ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "--no-remove", *PACKAGES[name]],
                    env=environment,
                    check=False,
                    stdout=subprocess.DEVNULL,
                )
        finally:
            if made:
                policy.unlink()
    elif "Chromium" in names:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def _wanted() -> list[str]:
    """What is to be installed: first what may take the place of something else."""
    return [HEADLESS] * (_has_packages() and tools.headless_shell() is None) + missing()


def _has_packages() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def main() -> int:
    names = _wanted()
    if names:
        print(f"Installing for the tests: {', '.join(names)} …", flush=True)
        install(names)
        names = missing()
    for name in names:
        print(f"*** {name} IS MISSING and could not be installed: its tests are SKIPPED ***", flush=True)
    return 1 if names and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
