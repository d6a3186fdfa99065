"""Composing: CPU for writing down a message of 5 KB, ours beside the ways that Python's own library has."""

from __future__ import annotations

import email
import email.policy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr

from mail.compose import Draft, Sender, compose

BUDGET = 0.3  # of EmailMessage's CPU
REPEAT = 100
MESSAGE_BYTES = 5 * 1024
WHEN = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
SENDER = Sender("Acme Store", "orders@shop.example")
LINE = "A line of an order that says what was bought, how many and for how much.\n"


@dataclass(frozen=True)
class Letter:
    """What all of them write: to somebody else each time, as a shop does."""

    number: int
    text: str
    html: str

    @property
    def to(self) -> str:
        return f"customer{self.number}@mail.example"

    @property
    def name(self) -> str:
        return f"Customer {self.number}"

    @property
    def subject(self) -> str:
        return f"Your order {self.number:06}"


def run(*, rounds: int) -> list[str]:
    """The table as Markdown lines."""
    lines = [
        f"## Composing ({rounds} alternating rounds of {REPEAT} messages of 5 KB, each to somebody else)",
        "",
        "| message | composer | CPU ms per message, median | × EmailMessage |",
        "|---|---|---:|---:|",
    ]
    verdicts = []
    number = 0
    for scene, line in SCENES.items():
        times: dict[str, list[float]] = {name: [] for name in COMPOSERS}
        text, html = bodies(line)
        check(Letter(0, text, html))
        for _ in range(rounds):
            for name, write in COMPOSERS.items():
                letters = [Letter(number + one, text, html) for one in range(REPEAT)]
                number += REPEAT
                started = time.process_time()
                for letter in letters:
                    write(letter)
                times[name].append((time.process_time() - started) / REPEAT * 1000)
        peer = times["EmailMessage, policy.SMTP"]
        for name, figures in times.items():
            ratio = statistics.median(ours / theirs for ours, theirs in zip(figures, peer, strict=True))
            lines.append(f"| {scene} | {name} | {statistics.median(figures):.3f} | {ratio:.2f} |")
            if name == "Storepost":
                verdicts.append(f"{ratio:.2f} ({scene})")
    return [*lines, "", f"Budget: at most {BUDGET} × EmailMessage. Reached: {', '.join(verdicts)}."]


def bodies(line: str) -> tuple[str, str]:
    """Text and HTML that are together 5 KB."""
    text = line * 20
    html = "<html><body>\n"
    while len((text + html).encode()) < MESSAGE_BYTES - len(line) - 40:
        html += f'<p class="line">{line.strip()}</p>\n'
    return text, html + "</body></html>\n"


def _ours(letter: Letter) -> bytes:
    draft = Draft(
        message_id=f"{letter.number}@shop.example",
        date=WHEN,
        subject=letter.subject,
        text=letter.text,
        html=letter.html,
        to=(f"{letter.name} <{letter.to}>",),
        auto_submitted="auto-generated",
    )
    return compose(draft, SENDER)


def _email_message(letter: Letter) -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["Date"] = WHEN
    message["From"] = Address(SENDER.name, addr_spec=SENDER.address)
    message["To"] = Address(letter.name, addr_spec=letter.to)
    message["Subject"] = letter.subject
    message["Message-ID"] = f"<{letter.number}@shop.example>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message.as_bytes()


def _mime_classes(letter: Letter) -> bytes:
    message = MIMEMultipart("alternative")
    message["Date"] = format_datetime(WHEN)
    message["From"] = formataddr((SENDER.name, SENDER.address))
    message["To"] = formataddr((letter.name, letter.to))
    message["Subject"] = letter.subject
    message["Message-ID"] = f"<{letter.number}@shop.example>"
    message["Auto-Submitted"] = "auto-generated"
    message.attach(MIMEText(letter.text, "plain", "utf-8"))
    message.attach(MIMEText(letter.html, "html", "utf-8"))
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


SCENES = {"ASCII": LINE, "some letters beyond it": LINE.replace("how much", "how much in €")}
COMPOSERS: dict[str, Callable[[Letter], bytes]] = {
    "Storepost": _ours,
    "EmailMessage, policy.SMTP": _email_message,
    "MIMEMultipart and MIMEText (base64)": _mime_classes,
}


def check(letter: Letter) -> None:
    """All of them say the same, or the comparison would mean nothing."""
    read = []
    for write in COMPOSERS.values():
        message = email.message_from_bytes(write(letter), policy=email.policy.default)
        bodies = [message.get_body((kind,)).get_payload(decode=True) for kind in ("plain", "html")]
        read.append(([message[name] for name in ("Date", "From", "To", "Subject")], [b.splitlines() for b in bodies]))
    assert read[0] == read[1] == read[2]
