"""What a server that says "slow down" means by it: pure, from its words."""

from __future__ import annotations

import enum
import re
from typing import Final

from mail.errors import Stage


class Throttling(enum.Enum):
    """What there was too much of."""

    MESSAGES = "messages"
    CONNECTIONS = "connections"
    DAY = "day"
    ONE_MESSAGE = "one message"  # or of one recipient: others are welcome


# errors.csv, rows of action throttle. 5.7.232, 233 and 236 are limits of an organization, 5.4.5 is Google's.
_DAY: Final = re.compile(
    r"(?i)SubmissionQuotaExceeded|submission quota|\b5\.2\.2\b|\b5\.1\.90\b|\b5\.7\.23[0-9]\b|\b5\.4\.5\b"
    r"|daily (?:limit|quota|message quota|(?:user )?sending (?:limit|quota))|daily smtp relay"
)
# Exchange says it also after the data, where it counts threads and not sessions.
_CONNECTIONS: Final = re.compile(r"(?i)\b432\D{0,8}4\.3\.2\b|thread limit exceeded|concurrent connections? limit")
_ONE_MESSAGE: Final = re.compile(r"(?i)\b[45]\.5\.3\b|too many recipients|\b5\.2\.12[12]\b|\b450\D{0,8}4\.2\.1\b")
_BEFORE_ANY_MESSAGE: Final = frozenset({Stage.CONNECT, Stage.TLS, Stage.GREET, Stage.AUTH})


def throttling_of(stage: Stage, words: str) -> Throttling:
    """Return what the reply is about."""
    if is_daily_limit(words):
        return Throttling.DAY
    if stage in _BEFORE_ANY_MESSAGE or _CONNECTIONS.search(words):
        return Throttling.CONNECTIONS
    return Throttling.ONE_MESSAGE if _ONE_MESSAGE.search(words) else Throttling.MESSAGES


def is_daily_limit(words: str) -> bool:
    """Whether the reply is about a limit of the day."""
    return _DAY.search(words) is not None
