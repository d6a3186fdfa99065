"""What the final reply of a server tells beside its code. No I/O."""

import re

from mail.smtp.records import SMTPReply

_QUEUE_IDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\[InternalId=(\d+)",  # Exchange, "2.6.0 <message id> [InternalId=..., Hostname=...] Queued mail for delivery"
        r"<([^<>\s]+)> \[Hostname=",  # Exchange Online, "2.0.0 OK <id> [Hostname=...]"
        r"\bqueued as ([^\s,;]+)",  # Postfix and its relatives
        r"\bid=([^\s,;]+)",  # Exim
        r"(\S+) - gsmtp\b",  # Gmail, "2.0.0 OK  1700000000 <id> - gsmtp"
        r"^(?:\d\.\d\.\d )?(\S+) Message accepted for delivery",  # Sendmail
        r"^(?:\d\.\d\.\d )?Ok ([0-9A-Za-z-]{12,})$",  # Amazon SES
    )
)


def queue_id(reply: SMTPReply) -> str:
    """Return the id in a final reply under which the provider's support finds the message, or an empty string."""
    text = reply.text
    for pattern in _QUEUE_IDS:
        if found := pattern.search(text):
            return found[1]
    return ""
