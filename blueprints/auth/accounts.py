"""Making administrators: by command, or by the one-time link of an empty installation."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from email_validator import EmailNotValidError, validate_email
from flask import current_app, url_for
from flask_security import hash_password
from sqlalchemy import func, select, update
from zxcvbn import zxcvbn

from extensions import db
from mail import audit
from mail.text_rules import clean, hidden_character
from models import OneTimeLink, Role, User
from models.clock import now
from models.user import PLATFORM_ADMIN

PASSWORD_MIN = 12
PASSWORD_MAX = 1024
NAME_MAX = 150
FIRST_ADMINISTRATOR = "first_administrator"
GUESSABLE = "This password is easily guessed. Use several unrelated words"
LINK_LIFETIME = timedelta(hours=1)


class AccountError(Exception):
    """What is wrong with the entries, one sentence each."""

    def __init__(self, **by_field: str):
        super().__init__(*by_field.values())
        self.by_field = by_field

    @property
    def sentences(self) -> list[str]:
        return list(self.by_field.values())


def normalize_email(text: str) -> str:
    """The address as it is stored and looked up.

    Raises:
        AccountError: it is not a full address.
    """
    try:
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized.lower()
    except (EmailNotValidError, UnicodeError):
        raise AccountError(email="Enter a full email address, like admin@yourdomain.com") from None


def check_name(name: str) -> str:
    """A person's name as it is stored.

    Raises:
        AccountError: it is too long or holds what cannot be seen.
    """
    name = clean(name)
    if len(name) > NAME_MAX:
        raise AccountError(name=f"Use {NAME_MAX} characters or fewer")
    if problem := hidden_character(name):
        raise AccountError(name=problem)
    return name


def check_password(password: str, *others: str) -> None:
    """Refuse passwords that are short or easily guessed; `others` are words an attacker knows, like the name.

    Raises:
        AccountError: with what to do instead.
    """
    if len(password) < PASSWORD_MIN:
        raise AccountError(password=f"Use at least {PASSWORD_MIN} characters")
    if len(password) > PASSWORD_MAX:
        raise AccountError(password=f"Use {PASSWORD_MAX} characters or fewer")
    # The first 72 characters say enough; the estimate slows down beyond.
    if zxcvbn(password[:72], user_inputs=[word for word in others if word])["score"] < 2:
        raise AccountError(password=GUESSABLE)


def create_administrator(email: str, name: str, password: str) -> User:
    """A new platform administrator. Commits.

    Raises:
        AccountError: an entry is refused; nothing is stored.
    """
    address = normalize_email(email)
    name = check_name(name)
    check_password(password, address, name)
    if db.session.scalar(select(User.id).where(User.email == address)):
        raise AccountError(email="Somebody with this email address exists already")
    role = db.session.scalars(select(Role).where(Role.name == PLATFORM_ADMIN)).one()
    user = User(email=address, name=name, password=hash_password(password), roles=[role])
    db.session.add(user)
    db.session.flush()  # the audit entry names the new person's id
    audit.record(audit.Actor(user.display_name, user.id), "administrator_created")
    db.session.commit()
    return user


def installation_is_empty() -> bool:
    return db.session.scalar(select(func.count()).select_from(User)) == 0


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def make_first_link() -> str | None:
    """The address that makes the first administrator, for an hour and one use; None once somebody exists. Commits."""
    if not installation_is_empty():
        return None
    token = secrets.token_urlsafe(32)
    db.session.add(
        OneTimeLink(
            token_hash=_hash(token), purpose=FIRST_ADMINISTRATOR, created_at=now(), expires_at=now(LINK_LIFETIME)
        )
    )
    db.session.commit()
    with current_app.test_request_context(base_url=current_app.config["PUBLIC_URL"]):
        return current_app.config["PUBLIC_URL"] + url_for("auth.welcome", token=token)


def link_is_good(token: str) -> bool:
    """Whether the one-time link could be used now; looking uses nothing up."""
    query = select(OneTimeLink.id).where(
        OneTimeLink.token_hash == _hash(token),
        OneTimeLink.purpose == FIRST_ADMINISTRATOR,
        OneTimeLink.used_at.is_(None),
        OneTimeLink.expires_at > now(),
    )
    return db.session.scalar(query) is not None and installation_is_empty()


def use_first_link(token: str, email: str, name: str, password: str) -> User | None:
    """The first administrator, made by the link; None when the link is used up, expired or no longer needed. Commits.

    Raises:
        AccountError: an entry is refused; the link stays good.
    """
    used = db.session.execute(
        update(OneTimeLink)
        .where(
            OneTimeLink.token_hash == _hash(token),
            OneTimeLink.purpose == FIRST_ADMINISTRATOR,
            OneTimeLink.used_at.is_(None),
            OneTimeLink.expires_at > now(),
        )
        .values(used_at=now())
    ).rowcount
    if not used or not installation_is_empty():
        db.session.rollback()
        return None
    try:
        return create_administrator(email, name, password)
    except AccountError:
        db.session.rollback()
        raise
