"""The shelves: one file per noun. Rows hold ciphertext and cannot open it."""

from models.api_key import APIKey
from models.api_usage import APIUsage
from models.audit import AuditEntry
from models.authorization_request import AuthorizationRequest
from models.connection import Connection
from models.email_settings import CustomField, EmailSettings
from models.keyring_check import KeyringCheck
from models.notice import Notice, NoticeKind
from models.one_time_link import OneTimeLink
from models.outbox import Attempt, Message, MessageBlob, MessageContent, Recipient
from models.pace import Lane, LanePermit, LaneRecipients, LaneSlot
from models.session import UserSession
from models.sign_in_attempt import SignInAttempt
from models.store import Store
from models.template import Brand, TemplateSwitch, TemplateVersion
from models.test_run import TestRun
from models.user import Role, User
from models.worker import StoreNudge, WorkerProcess

__all__ = [
    "APIKey",
    "APIUsage",
    "Attempt",
    "AuditEntry",
    "AuthorizationRequest",
    "Brand",
    "Connection",
    "CustomField",
    "EmailSettings",
    "KeyringCheck",
    "Lane",
    "LanePermit",
    "LaneRecipients",
    "LaneSlot",
    "Message",
    "MessageBlob",
    "MessageContent",
    "Notice",
    "NoticeKind",
    "OneTimeLink",
    "Recipient",
    "Role",
    "SignInAttempt",
    "Store",
    "StoreNudge",
    "TemplateSwitch",
    "TemplateVersion",
    "TestRun",
    "User",
    "UserSession",
    "WorkerProcess",
]
