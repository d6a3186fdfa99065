"""The catalogue of known error texts: 207 signatures, read once from `errors.csv` beside this file.

A signature is a pattern, the cause it stands for and the remedy. Texts of token calls and texts of SMTP sessions are
looked up in different halves of the catalogue, because the same word means different things there; a provider's own
rows are tried before the generic ones, because "access_denied" beside AADSTS53003 is a policy and no refusal.
Within each group the order of the file decides: it runs from the special to the general.

Source: providers.md 15.
"""

import csv
import re
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


def match(text: str, *, provider: str, family: Family) -> Signature | None:
    """Return the first signature found in the text, or None.

    Args:
        text: exception class, words, reply code and decoded challenge in one text; only its head is looked at.
        provider: key of the provider catalogue; an unknown one gets the generic rows.
        family: which half of the catalogue applies.
    """
    line = _JSON_GAP.sub(": ", " ".join(text[:TEXT_LIMIT].splitlines()))
    return next((row for row in _candidates(_rows_key(provider), family) if row.pattern.search(line)), None)


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
        pattern = re.compile(row["signature"].replace(_SLOW_GAP, _SAME_GAP))
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
