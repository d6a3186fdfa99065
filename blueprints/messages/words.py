"""What a message's state means, in sentences: the verdict on its page, the banner over held ones, each attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from blueprints.times import full_time, moment
from blueprints.web import equipment
from mail.drafts import current, values_for_words
from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from mail.outbox import CONTENT_UNREADABLE, MARKED_SENT, TEMPLATE_OFF
from models import Attempt, Message
from models.email_settings import EmailSettings, Method
from models.outbox import END_STATES, HoldReason, MessageStatus, RecipientStatus
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
        "the server’s last answer never came",
        "They may have been sent. Each one’s page says what to look for in the mailbox’s Sent folder.",
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
            return Verdict("off", f"Waiting, scheduled for {full_time(message.due_at)}", "Nothing is sent before then.")
        case MessageStatus.QUEUED:
            return Verdict("off", "Waiting to be sent", "It is next in line as soon as a worker is free.")
        case MessageStatus.SENDING:
            return Verdict("off", "On its way", "A worker is handing it to the server at this moment.")
        case MessageStatus.SENT if message.reason_code == MARKED_SENT:
            return _marked_sent(message)
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
        case MessageStatus.HELD if message.hold_reason is HoldReason.UNCERTAIN:
            return _unanswered(message, settings)
        case MessageStatus.HELD:
            return _with_doubt(_held(message, settings), message)
        case MessageStatus.EXPIRED:
            since = f"It was worthless after {full_time(message.expires_at)} and is not sent."
            return _with_doubt(Verdict("off", "Expired", since), message)
        case MessageStatus.CANCELLED if message.reason_code == TEMPLATE_OFF:
            text = f"{message.reason_detail}, so nothing was sent. Mail that comes in after it is switched on goes out."
            return Verdict("off", "Not sent: its template is switched off", text)
        case MessageStatus.CANCELLED:
            return _with_doubt(Verdict("off", "Cancelled", "Somebody cancelled it. It is not sent."), message)
    return _explained("bad", message, settings, "It is not tried again.")


def reason_in_short(message: Message, settings: EmailSettings) -> str:
    """One line for the list: why a message is where it is; empty when its state says it all."""
    match message.status:
        case MessageStatus.HELD if message.hold_reason:
            words = HOLDS[message.hold_reason].because
            return words[0].upper() + words[1:]
        case MessageStatus.DEFERRED | MessageStatus.FAILED:
            return _explanation(message, settings).headline
        case MessageStatus.SENT if message.reason_code == MARKED_SENT:
            return "Marked as sent"
        case MessageStatus.SENT if message.reason_code:
            return "Some recipients were refused"
        case MessageStatus.CANCELLED if message.reason_code == TEMPLATE_OFF:
            return "The template is switched off"
    return ""


def outlook(message: Message, now: datetime | None = None) -> str:
    """When something happens to a waiting message next; empty when that is at once or never."""
    now = now or utcnow()
    match message.status:
        case MessageStatus.QUEUED if message.due_at > now:
            return f"Scheduled for {moment(message.due_at, now)}"
        case MessageStatus.DEFERRED | MessageStatus.UNCERTAIN:
            return f"Next at {moment(message.due_at, now)}" if message.due_at > now else "Next in line"
    return ""


def expiry(message: Message, now: datetime | None = None) -> str:
    """Until when a message that has not ended is worth sending; empty when that is not limited."""
    if message.expires_at is None or message.status in END_STATES:
        return ""
    return f"Expires {moment(message.expires_at, now)}"


def attempt_line(attempt: Attempt, *, is_running: bool) -> tuple[str, str, str]:
    """Return kind, icon and words of one attempt."""
    if attempt.outcome in _OUTCOMES:
        return _OUTCOMES[attempt.outcome]
    if is_running:
        return "", "loader-circle", "Under way"
    return "warn", "circle-alert", "Interrupted: its worker stopped"


def _with_doubt(found: Verdict, message: Message) -> Verdict:
    """The verdict, and that the message may be with its recipients all the same."""
    if message.committing_at is None:
        return found
    return replace(found, text=f"{found.text} An earlier attempt may have got through already.")


def _marked_sent(message: Message) -> Verdict:
    if any(one.status is RecipientStatus.REFUSED for one in message.recipients):
        return Verdict(
            "warn", "Marked as sent", "Somebody found it in the mailbox. Some recipients were refused before."
        )
    return Verdict("ok", "Marked as sent", "Somebody found it in the mailbox, so it is not sent again.")


def _unanswered(message: Message, settings: EmailSettings) -> Verdict:
    """What to look for, and where, before somebody decides."""
    at = f" at {full_time(message.committing_at)}" if message.committing_at else ""
    lost = message.reason_code == "worker_lost"
    ending = "the worker stopped before it heard the answer" if lost else "the connection ended before it answered"
    text = f"The whole message went to the server{at}, and {ending}."
    mailbox = message.sender_address or settings.from_email or "the store’s sender"
    subject = f"“{message.subject}”" if message.subject else "a message without a subject"
    steps = (
        f"Open the mailbox of {mailbox} and look into its {_sent_folder(message, settings)}.",
        f"Look for {subject} with the Message-ID {message.message_id}.{_how_to_search(message, settings)}",
        "If it is there, mark it as sent. If it is not, send it again.",
    )
    return Verdict("warn", "Held: nobody knows whether it was sent", text, steps, message.reason_detail)


def _provider(message: Message, settings: EmailSettings) -> str:
    method = Method(message.method or settings.method)
    connection = settings.connection if method is Method.ADVANCED_SMTP else None
    return connection.provider if connection else "other"


def _sent_folder(message: Message, settings: EmailSettings) -> str:
    match _provider(message, settings):
        case "google":
            return "Sent mail"
        case provider if provider == "outlook" or provider.startswith("microsoft"):
            return "Sent Items"
    # Submission servers beyond the large providers often keep no copy of what programs send.
    return "Sent folder; if it keeps no copies of what programs send, ask for the server’s log"


def _how_to_search(message: Message, settings: EmailSettings) -> str:
    match _provider(message, settings):
        case "google":
            return f" Gmail finds it by rfc822msgid:{message.message_id.strip('<>')}."
        case provider if provider.startswith("microsoft"):
            return " An administrator finds it by that id in the message trace, too."
    return ""


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
    return explain(
        message.reason_detail,
        stage=Stage(message.reason_stage or Stage.MESSAGE),
        family=Family(message.reason_family or Family.SMTP),
        provider=_provider(message, settings),
        code=message.reason_code,
        values=values_for_words(current(settings, method, equipment()), equipment()),
    )
