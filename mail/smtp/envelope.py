"""What an envelope becomes on the wire: commands as bytes, and what this server could not take. No I/O.

Sources: RFC 5321 4.1.1 and 4.5.2, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461 (DSN).
"""

import re
from collections.abc import Mapping

from mail.errors import Refused, SettingsWrong, Stage
from mail.smtp.records import Envelope, SMTPReply
from mail.wire_names import ascii_domain

_UNSAFE_IN_PATH = re.compile(r"[\s<>\x00-\x1f\x7f]")
# RFC 3461 4: an xtext of at most 100 characters. Ours are identifiers, so nothing needs to be escaped.
_ENVELOPE_ID = re.compile(r"[0-9A-Za-z._-]{1,100}")


def sender_command(envelope: Envelope, offered: Mapping[str, str]) -> bytes:
    """Return the MAIL command, naming of the server's extensions only what is needed.

    Raises:
        SettingsWrong: the sender cannot be put on this wire.
    """
    try:
        path = _path(envelope.sender)
    except ValueError:
        raise SettingsWrong(
            "sender_unusable", "501 5.1.7 The sender address is malformed.", stage=Stage.SENDER
        ) from None
    if not path.isascii() and "SMTPUTF8" not in offered:
        raise SettingsWrong(
            "smtputf8_missing", "SMTPUTF8 is needed for the sender address and not offered.", stage=Stage.SENDER
        )
    return f"MAIL FROM:<{path}>{_parameters(envelope, path, offered)}\r\n".encode()


def recipient_command(address: str, offered: Mapping[str, str]) -> bytes | SMTPReply:
    """Return the RCPT command, or the answer in the server's place for an address that cannot be put on the wire."""
    try:
        path = _path(address)
    except ValueError:
        return SMTPReply(501, ("5.1.3 The recipient address is malformed.",))
    if not path.isascii() and "SMTPUTF8" not in offered:
        return SMTPReply(553, ("5.6.7 SMTPUTF8 is needed for this address and the server does not offer it.",))
    return f"RCPT TO:<{path}>\r\n".encode()


def check_content(content: bytes, offered: Mapping[str, str]) -> None:
    """Refuse what this server could not take or would read differently, before anything is said.

    A bare line feed is read as a line end by some servers and not by others: a second message could hide behind
    one (SMTP smuggling). We refuse it rather than repair it, since the bytes must be the same on every attempt.

    Raises:
        Refused: the content is unsendable, too large, or needs an extension that is not offered.
    """
    line_ends = content.count(b"\r\n")
    if not content.endswith(b"\r\n") or content.count(b"\n") != line_ends or content.count(b"\r") != line_ends:
        raise Refused("unsendable", "The message has line ends other than CRLF.", stage=Stage.MESSAGE)
    limit = offered.get("SIZE", "")
    if limit.isascii() and limit.isdigit() and 0 < int(limit) < len(content):
        raise Refused(
            "too_large",
            f"Message size of {len(content)} bytes exceeds fixed maximum of {limit} bytes the server announced.",
            stage=Stage.MESSAGE,
        )
    if content.isascii():
        return
    if not _headers(content).isascii() and "SMTPUTF8" not in offered:
        raise Refused("smtputf8_missing", "SMTPUTF8 is needed for the header and not offered.", stage=Stage.MESSAGE)
    if "8BITMIME" not in offered:
        raise Refused("eight_bit_missing", "8BITMIME is needed and not offered.", stage=Stage.MESSAGE)


def dot_stuffed(content: bytes) -> bytes:
    """Return the content with a dot doubled wherever it begins a line (RFC 5321 4.5.2). Expects CRLF line ends."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def chunk_command(size: int, *, is_last: bool) -> bytes:
    """Return the BDAT command for so many bytes (RFC 3030 2)."""
    return b"BDAT %d%s\r\n" % (size, b" LAST" if is_last else b"")


def _parameters(envelope: Envelope, sender_path: str, offered: Mapping[str, str]) -> str:
    content = envelope.content
    parameters = f" SIZE={len(content)}" if "SIZE" in offered else ""
    if "8BITMIME" in offered and not content.isascii():
        parameters += " BODY=8BITMIME"
    if "SMTPUTF8" in offered and _needs_smtputf8(envelope, sender_path):
        parameters += " SMTPUTF8"
    if "DSN" in offered and _ENVELOPE_ID.fullmatch(envelope.envelope_id):
        # A bounce then names our message and leaves the body out, which nobody needs to see twice.
        parameters += f" RET=HDRS ENVID={envelope.envelope_id}"
    return parameters


def _needs_smtputf8(envelope: Envelope, sender_path: str) -> bool:
    if not sender_path.isascii() or not all(address.rpartition("@")[0].isascii() for address in envelope.recipients):
        return True
    return not envelope.content.isascii() and not _headers(envelope.content).isascii()


def _headers(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[0]


def _path(address: str) -> str:
    """Return the address as it goes between angle brackets, its domain in ASCII (RFC 5890 A-label).

    Raises:
        ValueError: it is no address, or would end the command early.
    """
    if not address:
        return ""
    local, at, domain = address.rpartition("@")
    if not at or not local or _UNSAFE_IN_PATH.search(address):
        raise ValueError("not an address")
    return f"{local}@{ascii_domain(domain)}"
