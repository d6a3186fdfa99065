"""The catalogue of known error texts: 207 signatures, read once from `errors.csv` beside this file.

A signature is a pattern, the cause it stands for and the remedy. Texts of token calls and texts of SMTP sessions are
looked up in different halves of the catalogue, because the same word means different things there; a provider's own
rows are tried before the generic ones, because "access_denied" beside AADSTS53003 is a policy and no refusal.
Within each group the order of the file decides: it runs from the special to the general.

The file stays as it was researched. What its patterns miss or hit by accident in replies seen since is corrected by
`_ALSO`, `_BUT_NOT`, `_NOT_IN_A_REPLY` and `_FIRST_CODE_ONLY` below; each says why.

Source: providers.md 15.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from mail.errors import Family

# Longer texts are cut before matching, so that a hostile server cannot buy time with a long reply.
TEXT_LIMIT = 4000
GENERIC = "generic"

_SHARED_STAGES = frozenset({"dns", "connect", "tls"})
_STAGES = {
    Family.TOKEN: _SHARED_STAGES | {"consent", "token"},
    Family.SMTP: _SHARED_STAGES | {"ehlo", "auth", "mail_from", "rcpt", "data"},
}
# Catalogue key of a provider -> its rows in the file. A provider missing here (Fastmail, Yandex, ...) has no rows of
# its own and gets the generic ones; `other` may be anybody and gets all. The sandbox answers as Microsoft does.
_ROWS_OF = {"outlook": "microsoft", "aol": "yahoo", "att": "yahoo", "sandbox": "microsoft"}
_ANYBODY = frozenset({"", "other"})
# In a search both say "this code, and later one of these words"; the longer one retries nine widths of the gap at
# each of a thousand places of a hostile reply, which takes seconds.
_SLOW_GAP, _SAME_GAP = r"\D{0,8}(?:5\.7\.1)?.*", ".*"
# The rows know error and description as "invalid_grant: Bad Request"; in a raw JSON answer this stands between them.
_JSON_GAP = re.compile(r'"\s*,\s*"error_description"\s*:\s*"')

# Whose a host is, and what only that vendor's answers say. A custom provider may be anybody, so all rows are tried;
# but "421 4.7.0" from a Postfix of one's own is no word of Google's.
_HOSTS_OF = {
    "microsoft": re.compile(
        r"(?i)(?:^|\.)(?:office365\.(?:com|us)|outlook\.(?:com|cn|office\.com)|microsoftonline\.(?:com|us|cn)|hotmail\.com)$"
    ),
    "google": re.compile(r"(?i)(?:^|\.)(?:gmail|googlemail|google|googleapis)\.com$"),
    "yahoo": re.compile(r"(?i)(?:^|\.)(?:yahoo\.(?:com|co\.jp)|aol\.com|att\.net|verizon\.net)$"),
    "zoho": re.compile(r"(?i)(?:^|\.)(?:zoho\.(?:com|eu|in|com\.au|jp|sa|uk)|zohocloud\.ca)$"),
    "ses": re.compile(r"(?i)(?:^|\.)amazonaws\.com(?:\.cn)?$"),
}
_WORDS_OF = {
    "microsoft": re.compile(
        r"(?i)AADSTS|SmtpClientAuthentication|STOREDRV|MapiException|RESOLVER\.|SMTP; Client|microsoft|office365"
        r"|\.(?:outlook|exchangelabs)\.com|\b5\.7\.(?:139|60)\b|\b5\.2\.252\b|SendAsDenied|submission rate"
    ),
    "google": re.compile(r"(?i)gsmtp|gcdp|google|gmail"),
    "yahoo": re.compile(r"(?i)yahoo|request scope from registered scopes"),
    "zoho": re.compile(r"(?i)zoho|too many requests continuously"),
    "ses": re.compile(r"(?i)amazon|\bses:|Authentication Credentials Invalid|Email address is not verified|Throttling"),
}

# A server or token endpoint that answers with a number was reached, so words of it such as "connection timed out" tell
# of its own troubles and not of our resolver, socket or TLS library.
_STARTS_AS_REPLY = re.compile(r"(?:HTTP )?[1-5]\d\d(?![\w.])")
_NOT_IN_A_REPLY = frozenset({*range(94, 108), *range(112, 124), 149, 150, 205})
# These rows know a reply by nothing but its code. Inside a reply other numbers are tickets and lengths.
_FIRST_CODE_ONLY = frozenset({155, 156, 157, 192, 204, 206, 207})
# The same refusals in the words of other servers (Zoho, Fastmail, Yahoo, Exim, Gmail's new form).
_ALSO = {
    189: r"relaying disallowed as|not authori[sz]ed to send from|from address (?:is )?not verified"
    r"|sender (?:address )?(?:is )?not allowed(?: for| to| by|\b.*authenticated)",
    190: r"sender verify failed",
    193: r"relay not permitted|relaying (?:is )?(?:disallowed|prohibited|not permitted)",
    195: r"unrouteable address|recipient address rejected: (?:user|undeliverable|unknown|domain not found)",
    199: r"553\D{0,8}5\.7\.1\b.*(?:spamhaus|blocklist|blacklist|reputation)",
}
_BUT_NOT = {
    28: re.compile(r"AADSTS7000[08]\b"),  # "Error validating credentials" stands before what is wrong with the grant
    190: re.compile(r"(?i)outgoing blocked"),  # Zoho's 5.1.8 is a block for spam, not an unknown domain
    195: re.compile(r"(?i)sender verify failed"),  # Exim names the unknown mailbox, which is the sender's
}


class Action(StrEnum):
    """What kind of step mends the fault (providers.md 15)."""

    RETRY = "retry"
    THROTTLE = "throttle"
    REAUTHORIZE = "reauthorize"
    FIX_SETTINGS = "fix_settings"
    FIX_PROVIDER = "fix_provider"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Signature:
    """One row of the catalogue.

    Attributes:
        number: row number in the file, from 1.
        stage: where the fault lies, in the file's words (consent, token, dns, connect, tls, ehlo, auth, mail_from,
            rcpt, data). An address fault may surface only after DATA, so this is not where the error was raised.
        provider: microsoft, google, yahoo, zoho, ses or generic.
        pattern: searched for in the error text put on one line.
    """

    number: int
    stage: str
    provider: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    action: Action
    source: str


def match(text: str, *, provider: str, family: Family, hosts: Iterable[str] = ()) -> Signature | None:
    """Return the first signature found in the text, or None.

    Args:
        text: exception class, words, reply code and decoded challenge in one text; only its head is looked at.
        provider: key of the provider catalogue; an unknown one gets the generic rows.
        family: which half of the catalogue applies.
        hosts: who spoke. They tell which vendor a custom provider is; one that is none of them gets a vendor's row
            only for words of that vendor. Without any, all rows count.
    """
    line = _JSON_GAP.sub(": ", " ".join(text[:TEXT_LIMIT].splitlines()))
    key, spoke = _rows_key(provider), [host for host in hosts if host]
    may_be_anybody = key in _ANYBODY and bool(spoke)
    if may_be_anybody:
        key = next((vendor for vendor in map(vendor_of, spoke) if vendor), key)
    is_reply = _STARTS_AS_REPLY.match(line) is not None
    for row in _candidates(key, family):
        if may_be_anybody and key in _ANYBODY and row.provider != GENERIC and not _WORDS_OF[row.provider].search(line):
            continue
        if _fits(row, line, is_reply=is_reply):
            return row
    return None


def vendor_of(host: str) -> str:
    """Return which provider of the file a host belongs to; empty when it is none of them."""
    return next((vendor for vendor, pattern in _HOSTS_OF.items() if pattern.search(host)), "")


@lru_cache(maxsize=1)
def signatures() -> tuple[Signature, ...]:
    """Return all rows in file order.

    Raises:
        ValueError: the file is damaged: an unknown action or stage, or a pattern that does not compile.
    """
    path = Path(__file__).with_name("errors.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        return tuple(_signature(number, row) for number, row in enumerate(csv.DictReader(lines), start=1))


def _signature(number: int, row: dict[str, str]) -> Signature:
    if not any(row["stage"] in stages for stages in _STAGES.values()):
        raise ValueError(f"errors.csv row {number}: unknown stage {row['stage']!r}")
    try:
        # Servers shout and translate; the codes and words mean the same in capitals.
        words = "|".join(filter(None, (row["signature"].replace(_SLOW_GAP, _SAME_GAP), _ALSO.get(number, ""))))
        pattern = re.compile(words.removeprefix("(?i)"), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"errors.csv row {number}: {error}") from error
    return Signature(
        number=number,
        stage=row["stage"],
        provider=row["provider"],
        pattern=pattern,
        cause=row["cause"],
        remedy=row["remedy"],
        action=Action(row["action"]),
        source=row["source"],
    )


def _fits(row: Signature, line: str, *, is_reply: bool) -> bool:
    if is_reply and row.number in _NOT_IN_A_REPLY:
        return False
    if row.number in _BUT_NOT and _BUT_NOT[row.number].search(line):
        return False
    if is_reply and row.number in _FIRST_CODE_ONLY:
        return row.pattern.match(line) is not None
    return row.pattern.search(line) is not None


def _rows_key(provider: str) -> str:
    if provider.startswith("microsoft365"):  # the national clouds speak the same words
        return "microsoft"
    return _ROWS_OF.get(provider, provider)


@lru_cache(maxsize=32)
def _candidates(rows_key: str, family: Family) -> tuple[Signature, ...]:
    """Return the rows to try, the provider's own first."""
    fitting = [row for row in signatures() if row.stage in _STAGES[family]]
    own = [row for row in fitting if row.provider != GENERIC and (rows_key in _ANYBODY or row.provider == rows_key)]
    return (*own, *(row for row in fitting if row.provider == GENERIC))
