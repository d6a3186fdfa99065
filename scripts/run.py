"""`make run`: everything on this machine, with nothing to configure.

Makes keys and certificates in instance/ on the first start, brings the database up to date, then runs web, worker,
relay and sandbox under honcho and prints the addresses and, while nobody can sign in yet, the one-time link.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import honcho.manager

ROOT = Path(__file__).resolve().parent.parent
INSTANCE = ROOT / "instance"
BIN = Path(sys.executable).parent
PORT = 8025  # always: redirect URIs registered at providers depend on it
RELAY_PORT = 2525
SANDBOX_PORTS = {"WEB": 8026, "TOKEN": 8027, "SMTP": 8587, "SMTPS": 2465}
READY_WITHIN_S = 60


def main() -> int:
    sandbox, relay = is_wanted("SANDBOX"), is_wanted("RELAY")
    if not are_free(sandbox, relay):
        return 1
    INSTANCE.mkdir(mode=0o700, exist_ok=True)
    environment = prepare(sandbox)
    flask(environment, "db", "upgrade")
    # The worker finishes the messages it has begun before it goes.
    honcho.manager.KILL_WAIT = 30
    manager = honcho.manager.Manager()
    manager.add_process(
        "web", f"exec '{BIN}/gunicorn' --bind 127.0.0.1:{PORT} 'app:create_app()'", env=environment, cwd=str(ROOT)
    )
    manager.add_process("worker", f"exec '{BIN}/flask' worker", env=environment, cwd=str(ROOT))
    if relay:
        manager.add_process("relay", f"exec '{BIN}/flask' relay", env=environment, cwd=str(ROOT))
    if sandbox:
        manager.add_process("sandbox", f"exec '{BIN}/flask' sandbox", env=environment, cwd=str(ROOT))
    threading.Thread(target=announce, args=(environment, sandbox, relay), daemon=True).start()
    manager.loop()
    # Ctrl-C is how one ends it, so it is not a failure.
    return 0 if manager.returncode in (0, 130, 143, None) else 1


def is_wanted(part: str) -> bool:
    """Whether this part shall run: `SANDBOX=0 make run` leaves the sandbox out."""
    return os.environ.get(part, "1") not in ("0", "no", "false")


def are_free(sandbox: bool, relay: bool) -> bool:
    """Whether all ports can be had; says in words which one cannot, and what to do."""
    parts = {PORT: "", **({RELAY_PORT: "RELAY"} if relay else {})}
    parts |= dict.fromkeys(SANDBOX_PORTS.values() if sandbox else (), "SANDBOX")
    for port, part in parts.items():
        if not is_free(port):
            print(f"Port {port} is taken by another program on this machine. Stop that program, then run this again.")
            if part:
                print(f"Without the {part.lower()} it is not needed: {part}=0 make run")
            return False
    return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def prepare(sandbox: bool) -> dict[str, str]:
    """Make what the first start needs, and return the environment of all processes."""
    secret_key, keyring = INSTANCE / "secret_key", INSTANCE / "keyring"
    environment = {
        "STOREPOST_PUBLIC_URL": f"http://localhost:{PORT}",
        "STOREPOST_SECRET_KEY_FILE": str(secret_key),
        "STOREPOST_KEYRING_FILE": str(keyring),
        "STOREPOST_DATABASE_URL": f"sqlite:///{INSTANCE / 'storepost.sqlite3'}",
        "STOREPOST_RELAY_PORT": str(RELAY_PORT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "FLASK_APP": "app",
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ},
    }
    if not secret_key.exists():
        write_private(secret_key, secrets.token_urlsafe(48))
    if not keyring.exists():
        flask(environment, "secrets", "init", str(keyring))
    if sandbox:
        authority = subprocess.run(
            [sys.executable, "-m", "sandbox", "--certificates-only", "--directory", str(INSTANCE / "sandbox")],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        environment |= {
            "STOREPOST_CA_FILE": json.loads(authority)["ca_file"],
            "STOREPOST_EGRESS_ALLOW": "localhost:"
            + ",".join(str(SANDBOX_PORTS[n]) for n in ("TOKEN", "SMTP", "SMTPS")),
            "STOREPOST_SANDBOX_WEB_URL": f"http://127.0.0.1:{SANDBOX_PORTS['WEB']}",
            "STOREPOST_SANDBOX_TOKEN_URL": f"https://localhost:{SANDBOX_PORTS['TOKEN']}",
            "STOREPOST_SANDBOX_SMTP_PORT": str(SANDBOX_PORTS["SMTP"]),
        }
    return environment


def write_private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
        stream.write(text + "\n")


def flask(environment: dict[str, str], *arguments: str) -> str:
    """Run one of our commands; its words are shown only when it fails."""
    done = subprocess.run([str(BIN / "flask"), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit((done.stdout + done.stderr).strip())
    return done.stdout.strip()


def announce(environment: dict[str, str], sandbox: bool, relay: bool) -> None:
    """Once the web server answers, say where it is: the last thing printed."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://localhost:{PORT}/readyz", timeout=2):
                break
        except OSError:
            time.sleep(0.1)
    else:
        return
    link = flask(environment, "admin", "link")
    lines = ["", f"  Storepost is running:   http://localhost:{PORT}"]
    if relay:
        lines.append(
            f"  Mail by SMTP:           127.0.0.1 port {RELAY_PORT}, user name and password: a store's code and API key"
        )
    if sandbox:
        lines.append(f"  Sandbox inbox:          http://127.0.0.1:{SANDBOX_PORTS['WEB']}/inbox")
    if link:
        lines += [
            "",
            "  Nobody can sign in yet. Open this link within the hour to make the first administrator:",
            f"  {link}",
        ]
    lines += ["", "  Ctrl-C stops everything.", ""]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
