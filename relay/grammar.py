"""The words of SMTP commands, taken apart. Pure. Source: RFC 5321 4.1, RFC 1870, RFC 6152, RFC 6531, RFC 4954."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mail import text_rules

_PATH = re.compile(r" ?(?:<(?P<path>[^<>]*)>|(?P<bare>[^\s<>]+))(?P<parameters>(?: +[^\s<>]\S*)*) *")
_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\s=]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Refusal(Exception):
    """A command cannot be followed; the text is the whole reply."""

    @property
    def reply(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Command:
    """A command line: its verb in capitals, and what stands behind it."""

    verb: str
    argument: str


@dataclass(frozen=True)
class Sender:
    """What MAIL says: an address (empty for bounces), the promised size, and whether addresses may be international."""

    address: str
    size_bytes: int = 0
    is_international: bool = False


def parse_command(line: bytes) -> Command:
    """Return the command of a whole line, line end included.

    Raises:
        Refusal: it does not end in CR LF, has control characters, or is no UTF-8.
    """
    if not line.endswith(b"\r\n"):
        raise Refusal("500 5.5.2 End each line with CR LF")
    if _CONTROLS.search(line, 0, len(line) - 2):
        raise Refusal("500 5.5.2 A command has no control characters")
    try:
        text = line[:-2].decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("500 5.5.2 Write in UTF-8") from None
    verb, _, argument = text.partition(" ")
    return Command(verb.upper(), argument.strip(" \t"))


def parse_sender(argument: str) -> Sender:
    """Return what stands behind MAIL.

    The address only has to look like one: the store's own sender takes its place.

    Raises:
        Refusal: no path, or a parameter that is unknown or malformed.
    """
    address, parameters = _parse_path(argument, "FROM:", "501 5.5.4 Write MAIL FROM:<address>")
    if len(address) > 320 or " " in address:
        raise Refusal("553 5.1.7 The sender is no address")
    size, international = 0, False
    for keyword, value in parameters:
        if keyword == "SIZE" and value is not None and _SIZE.fullmatch(value):
            size = int(value)
        elif keyword == "SMTPUTF8" and value is None:
            international = True
        elif not (
            (keyword == "BODY" and (value or "").upper() in ("7BIT", "8BITMIME")) or (keyword == "AUTH" and value)
        ):
            raise Refusal(f"555 5.5.4 MAIL takes SIZE, BODY=7BIT, BODY=8BITMIME and SMTPUTF8, not {keyword}")
    return Sender(address, size, international)


def parse_recipient(argument: str, *, is_international: bool) -> str:
    """Return the address behind RCPT in its one spelling.

    Raises:
        Refusal: no path, a parameter, or no full address.
    """
    address, parameters = _parse_path(argument, "TO:", "501 5.5.4 Write RCPT TO:<address>")
    if parameters:
        raise Refusal("555 5.5.4 RCPT takes no parameters")
    if not address.isascii() and not is_international:
        raise Refusal("553 5.6.7 Add SMTPUTF8 to MAIL for an international address")
    try:
        return text_rules.parse_address(address)
    except ValueError:
        raise Refusal("553 5.1.3 The recipient is no full address") from None


def _parse_path(argument: str, keyword: str, words: str) -> tuple[str, list[tuple[str, str | None]]]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(words)
    found = _PATH.fullmatch(argument, len(keyword))
    if found is None:
        raise Refusal(words)
    parameters: list[tuple[str, str | None]] = []
    for word in found["parameters"].split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None:
            raise Refusal(words)
        parameters.append((parameter["keyword"].upper(), parameter["value"]))
    return found["bare"] if found["path"] is None else found["path"], parameters
