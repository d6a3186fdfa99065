"""Where applications find the relay: what the page says about it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import current_app

from config import is_loopback_host


@dataclass(frozen=True)
class SMTPAccess:
    """What an application's SMTP settings need."""

    host: str
    port: int
    encryption: str


def smtp_access() -> SMTPAccess:
    """Return where the relay listens, by the settings; whether it runs, only a connection would tell."""
    settings = current_app.config
    host = settings.get("RELAY_HOST", "127.0.0.1")
    is_local = is_loopback_host(host)
    if not is_local and _is_any_address(host):
        host = urlsplit(settings["PUBLIC_URL"]).hostname or host
    can_encrypt = bool(settings.get("RELAY_CERT_FILE"))
    encryption = "None needed on this machine" if is_local and not can_encrypt else "STARTTLS"
    return SMTPAccess(host, settings.get("RELAY_PORT", 2525), encryption)


def _is_any_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
