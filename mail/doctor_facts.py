"""What each step of a test learned, as one line of words. Pure; knows no database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mail.errors import Stage

Facts = Mapping[str, Any]


def learned(stage: Stage, facts: Facts, *, host: str, now: datetime) -> str:
    """Return what a step that is done taught.

    Args:
        facts: as the conversation told them (`mail.smtp.Observer`).
        host: the tested mail server.
        now: when the test ended, for how long a token was still good.
    """
    match stage:
        case Stage.SETTINGS:
            return "Nothing is missing"
        case Stage.RESOLVE:
            return _addresses(facts)
        case Stage.CONNECT:
            address = str(facts.get("address", ""))
            return f"Reached {f'[{address}]' if ':' in address else address}:{facts.get('port', '')}"
        case Stage.TLS:
            return _encryption(facts)
        case Stage.TOKEN:
            return _token(facts, now)
        case Stage.GREET:
            return f"{host} offers {_offered(facts) or 'no sign-in'}"
        case Stage.AUTH:
            return f"As {facts.get('user', '')} by {facts.get('mechanism', '')}"
        case Stage.MESSAGE:
            return _answer(facts)
    return str(facts.get("address", ""))


def _addresses(facts: Facts) -> str:
    first, *more = facts.get("addresses") or [""]
    if not more:
        return str(first)
    return f"{first} and {len(more)} more address{'' if len(more) == 1 else 'es'}"


def _encryption(facts: Facts) -> str:
    version = str(facts.get("version") or "").replace("TLSv", "TLS ")
    if not version:
        return "Not encrypted: the server offers no encryption"
    name = _common_name(str(facts.get("subject") or ""))
    words = f"{version}, certificate of {name}" if name else f"{version}, certificate"
    until = str(facts.get("not_after") or "")
    if not until:
        return words
    at = datetime.fromisoformat(until)
    return f"{words}{',' if name else ''} valid to {at.day} {at:%b %Y}"


def _common_name(subject: str) -> str:
    return next((part.removeprefix("CN=") for part in subject.split(", ") if part.startswith("CN=")), "")


def _token(facts: Facts, now: datetime) -> str:
    scope, expires_at = facts.get("scope"), facts.get("expires_at")
    parts = [f"Granted {scope}" if scope else "Granted"]
    if expires_at:
        left_s = max((datetime.fromisoformat(str(expires_at)) - now).total_seconds(), 0.0)
        parts.append(f"valid for {left_s:.0f} s" if left_s < 90 else f"valid for {left_s / 60:.0f} min")
    if facts.get("renewed"):
        parts.append("renewed because the server refused the kept one")
    elif not facts.get("fresh"):
        parts.append("kept from the last renewal")
    if facts.get("rotated") and not facts.get("pasted"):
        parts.append("new refresh token stored")
    return ", ".join(parts)


def _answer(facts: Facts) -> str:
    """The server's words, and the queue id where it is not plain to see at their end."""
    words = f"{facts.get('code', '')} {facts.get('text', '')}".strip()
    queue_id = str(facts.get("queue_id") or "")
    return words if not queue_id or words.endswith(queue_id) else f"{words} · Queue id {queue_id}"


def _offered(facts: Facts) -> str:
    """The mechanisms in the server's AUTH line."""
    for line in facts.get("capabilities") or ():
        keyword, _, mechanisms = str(line).partition(" ")
        if keyword == "AUTH":
            return ", ".join(mechanisms.split())
    return ""
