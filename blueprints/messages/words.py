"""What a message's state means, in sentences: the verdict on its page, the banner over held ones, each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from blueprints.times import full_time
from blueprints.web import equipment
from mail.drafts import current, values_for_words
from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from mail.outbox import CONTENT_UNREADABLE
from models import Attempt, Message
from models.email_settings import EmailSettings, Method
from models.outbox import HoldReason, MessageStatus
from models.types import utcnow


@dataclass(frozen=True)
class Verdict:
    """kind is that of a note: ok, warn, bad, off; `technical` are the server's own words."""

    kind: str
    title: str
    text: str
    steps: tuple[str, ...] = ()
    technical: str = ""


@dataclass(frozen=True)
class HoldWords:
    """What a hold means; `count` messages stand before it as in "12 messages are held: emails are turned off"."""

    because: str
    meaning: str
    release: str  # what the button says; empty when releasing would lead straight back
    icon: str = "circle-pause"


HOLDS: Mapping[HoldReason, HoldWords] = {
    HoldReason.EMAILS_OFF: HoldWords(
        "emails were turned off",
        "They wait until somebody decides whether they are still wanted.",
        "Send them",
        "power",
    ),
    HoldReason.NOT_COMPLETE: HoldWords(
        "the email settings are not complete",
        "They go out, oldest first, once what is missing is filled in and saved.",
        "Try again",
    ),
    HoldReason.NEEDS_REAUTHORIZATION: HoldWords(
        "the mailbox has to be connected again",
        "They go out, oldest first, after you reconnect.",
        "Try again",
        "unplug",
    ),
    HoldReason.SETTINGS_WRONG: HoldWords(
        "the provider does not accept these settings",
        "They go out, oldest first, once the settings are mended and saved.",
        "Try again",
    ),
    HoldReason.UNREADABLE: HoldWords(
        "a stored secret cannot be read",
        "Enter the credentials again; after that they go out, oldest first.",
        "Try again",
        "key-round",
    ),
    HoldReason.UNCERTAIN: HoldWords(
        "nobody knows whether they were sent",
        "The server took them and never answered. Look into the mailbox’s sent mail before you send them again.",
        "Send again",
        "circle-help",
    ),
    HoldReason.POISON: HoldWords(
        "delivering them failed five times without a result",
        "Something about them stopped the worker each time. Its log has the details.",
        "Try again",
        "shield-alert",
    ),
}

_OUTCOMES = {
    "sent": ("ok", "check", "Accepted"),
    "deferred": ("warn", "rotate-ccw", "Put off, to be tried again"),
    "held": ("warn", "circle-pause", "Held"),
    "failed": ("bad", "x", "Refused"),
    "expired": ("", "timer", "Expired before it was sent"),
    "queued": ("", "undo-2", "Taken back before it was sent"),
    "uncertain": ("warn", "circle-help", "May have been sent: the server never answered"),
}


def verdict(message: Message, settings: EmailSettings, now: datetime | None = None) -> Verdict:
    """Return what there is to know about a message first."""
    now = now or utcnow()
    match message.status:
        case MessageStatus.QUEUED if message.due_at > now:
            return Verdict("off", "Scheduled", f"It goes out at {full_time(message.due_at)}.")
        case MessageStatus.QUEUED:
            return Verdict("off", "Waiting to be sent", "It is next in line as soon as a worker is free.")
        case MessageStatus.SENDING:
            return Verdict("off", "On its way", "A worker is handing it to the server at this moment.")
        case MessageStatus.SENT if message.reason_code:
            return Verdict(
                "warn",
                "Accepted for some recipients",
                "The server refused the others; each one’s answer stands below.",
                technical=message.reason_detail,
            )
        case MessageStatus.SENT:
            return Verdict("ok", "Accepted by the server", "From here on the provider delivers it.")
        case MessageStatus.DEFERRED:
            return _explained("warn", message, settings, f"The next attempt is at {full_time(message.due_at)}.")
        case MessageStatus.UNCERTAIN:
            text = (
                "The connection ended after the last bytes, before the server answered. It goes out once more, with "
                f"identical bytes, at {full_time(message.due_at)}."
            )
            return Verdict("warn", "May have been sent", text, technical=message.reason_detail)
        case MessageStatus.HELD:
            found = _held(message, settings)
            if message.committing_at and message.hold_reason is not HoldReason.UNCERTAIN:
                return replace(found, text=f"{found.text} An earlier attempt may have got through already.")
            return found
        case MessageStatus.EXPIRED:
            return Verdict("off", "Expired", "It was worthless after its time and was not sent.")
        case MessageStatus.CANCELLED:
            return Verdict("off", "Cancelled", "Somebody cancelled it before it was sent.")
    return _explained("bad", message, settings, "It is not tried again.")


def reason_in_short(message: Message, settings: EmailSettings) -> str:
    """One line for the list: why a message is where it is; empty when its state says it all."""
    match message.status:
        case MessageStatus.HELD if message.hold_reason:
            words = HOLDS[message.hold_reason].because
            return words[0].upper() + words[1:]
        case MessageStatus.DEFERRED | MessageStatus.FAILED:
            return _explanation(message, settings).headline
        case MessageStatus.SENT if message.reason_code:
            return "Some recipients were refused"
    return ""


def attempt_line(attempt: Attempt, *, is_running: bool) -> tuple[str, str, str]:
    """Return kind, icon and words of one attempt."""
    if attempt.outcome in _OUTCOMES:
        return _OUTCOMES[attempt.outcome]
    if is_running:
        return "", "loader-circle", "Under way"
    return "warn", "circle-alert", "Interrupted: its worker stopped"


def _held(message: Message, settings: EmailSettings) -> Verdict:
    reason = message.hold_reason or HoldReason.SETTINGS_WRONG
    words = HOLDS[reason]
    title = f"Held: {words.because}"
    if reason in (HoldReason.NEEDS_REAUTHORIZATION, HoldReason.SETTINGS_WRONG) and message.reason_detail:
        found = _explanation(message, settings)
        return Verdict("warn", title, f"{found.headline}. {found.meaning}", found.steps, message.reason_detail)
    meaning = words.meaning
    if reason is HoldReason.NOT_COMPLETE and message.reason_detail:
        meaning = f"Missing: {message.reason_detail}. {meaning}"
    if message.reason_code == CONTENT_UNREADABLE:
        meaning = (
            "What it says cannot be read any more. Cancel it and have it handed in anew, or have its key restored."
        )
        return Verdict("warn", "Held: its content cannot be read", meaning, technical=message.reason_detail)
    technical = message.reason_detail if reason is not HoldReason.NOT_COMPLETE else ""
    return Verdict("warn", title, meaning, technical=technical)


def _explained(kind: str, message: Message, settings: EmailSettings, outlook: str) -> Verdict:
    found = _explanation(message, settings)
    return Verdict(kind, found.headline, f"{found.meaning} {outlook}", found.steps, message.reason_detail)


def _explanation(message: Message, settings: EmailSettings) -> Explanation:
    method = Method(message.method or settings.method)
    connection = settings.connection if method is Method.ADVANCED_SMTP else None
    return explain(
        message.reason_detail,
        stage=Stage(message.reason_stage or Stage.MESSAGE),
        family=Family(message.reason_family or Family.SMTP),
        provider=connection.provider if connection else "other",
        code=message.reason_code,
        values=values_for_words(current(settings, method, equipment()), equipment()),
    )
