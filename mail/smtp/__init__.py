"""The SMTP conversation, from dialling to the server's answer. Knows no database.

conversation  what callers use: open, authenticate, send, send_all, close
session       the state its parts share: wire, capabilities, secrets, deadlines
transfer      one message: everything in one write, in groups, or by turns
window        several messages in flight
envelope      commands as bytes, and what a server could not take
sasl          what is said inside AUTH
lines         bytes in, replies out, bounded
faults        the border where replies and socket faults become `mail.errors`
replies       what a final reply tells beside its code
records       plain records that go in and come out
pool          signed-in conversations kept for the next message
"""

from mail.smtp.conversation import Conversation
from mail.smtp.records import (
    BearerLogin,
    Encryption,
    Endpoint,
    Envelope,
    Observer,
    PasswordLogin,
    RecipientResult,
    SendResult,
    Sent,
    SMTPReply,
    Timeouts,
)

__all__ = [
    "BearerLogin",
    "Conversation",
    "Encryption",
    "Endpoint",
    "Envelope",
    "Observer",
    "PasswordLogin",
    "RecipientResult",
    "SMTPReply",
    "SendResult",
    "Sent",
    "Timeouts",
]
