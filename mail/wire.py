"""What finished bytes must be before they may travel, read with other eyes than those that wrote them. No I/O.

Source: RFC 5322 2.1.1 and 2.2, RFC 5321 2.3.8; security.md 56.
"""

MAX_LINE_BYTES = 998  # RFC 5322 2.1.1, without the line end
_WINDOW_BYTES = MAX_LINE_BYTES + len(b"\r\n")

_BLANK_LINE = b"\r\n\r\n"


class NotWireSafe(ValueError):
    """A message from outside that cannot be sent on; the text is a sentence of ours and quotes nothing of it."""


def line_fault(content: bytes) -> str:
    """Return what is wrong with the lines, or an empty string: CRLF only, at most 998 octets before each.

    It copies nothing: a message of 34 MB costs some milliseconds and no memory.
    """
    line_ends = content.count(b"\r\n")
    if content.count(b"\n") != line_ends or content.count(b"\r") != line_ends:
        return "a line end other than CRLF"
    return f"a line longer than {MAX_LINE_BYTES} octets" if _has_long_line(content) else ""


def is_safe(content: bytes) -> bool:
    """True for lines as `line_fault` wants them, ASCII and without NUL: any server takes such bytes as they are."""
    return content.isascii() and b"\0" not in content and not line_fault(content)


def header_names(content: bytes, start: int = 0) -> list[str]:
    """Return the names of the fields from `start` to the next blank line, in lower case and in their order."""
    if content.startswith(b"\r\n", start):
        return []
    end = content.find(_BLANK_LINE, start)
    lines = content[start : end if end >= 0 else len(content)].split(b"\r\n")
    return [
        line.partition(b":")[0].decode("ascii", "replace").lower() for line in lines if line[:1] not in (b" ", b"\t")
    ]


def _has_long_line(content: bytes) -> bool:
    """Jump from line end to line end as far as a line may reach: whatever lies between two jumps is short enough."""
    position, length = 0, len(content)
    while length - position > MAX_LINE_BYTES:
        found = content.rfind(b"\n", position, position + _WINDOW_BYTES)
        if found < 0:
            return True
        position = found + 1
    return False
