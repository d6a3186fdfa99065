"""AUTH PLAIN and LOGIN taken apart, and judged in threads, so that no conversation waits for another one's question.

Source: RFC 4954, RFC 4616, draft-murchison-sasl-login.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from extensions import db
from mail import relay_access
from mail.api_keys import KeyHolder
from models.database import reading
from relay.grammar import Refusal

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

WRONG = "535 5.7.8 User name or API key is wrong"
AWAY = "454 4.7.0 The sign-in cannot be judged now; try again later"
NO_BASE64 = "501 5.5.2 Send it in base64"


@dataclass(frozen=True)
class Verdict:
    """Who signed in, or how it is refused: the reply, how long it is kept back, and whether it ends the connection."""

    holder: KeyHolder | None = None
    reply: str = "235 2.7.0 Signed in"
    delay_s: float = 0.0
    is_last: bool = False


class SignIns:
    """Judges user names and passwords."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(2, "relay-sign-in")

    async def judge(self, user: str, password: str, client: str) -> Verdict:
        """Return what the database says about them; a failure is counted and noted in the log."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._judge, user, password, client)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _judge(self, user: str, password: str, client: str) -> Verdict:
        with self._app.app_context():
            try:
                with reading():
                    holder = relay_access.sign_in(user, password)
                    db.session.rollback()
                return Verdict(holder) if holder else _refused(user, client)
            except relay_access.NotAllowed as error:
                return Verdict(reply=f"535 5.7.8 {error}")
            except SQLAlchemyError:
                logger.warning("a sign-in could not be judged", exc_info=True)
                return Verdict(reply=AWAY)
            finally:
                _close_session()


def _refused(user: str, client: str) -> Verdict:
    with reading():
        store_id = relay_access.store_named(user)
        db.session.rollback()
    failures = relay_access.record_failure(user, client)
    delay_s = relay_access.delay_s(failures)
    # Not what was typed: people type passwords into the wrong field.
    facts = {"client": client, "store_id": store_id, "failures": failures}
    logger.warning("a sign-in was refused", extra=facts)
    return Verdict(reply=WRONG, delay_s=delay_s, is_last=failures >= relay_access.PATIENCE)


def _close_session() -> None:
    try:
        db.session.remove()
    except SQLAlchemyError:
        logger.debug("the session could not be closed", exc_info=True)


def decode(text: str | bytes) -> bytes:
    """Return what a client sent in base64.

    Raises:
        Refusal: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(NO_BASE64) from None


def read_plain(payload: bytes) -> tuple[str, str]:
    """Return user name and password of PLAIN.

    Raises:
        Refusal: it is malformed, or asks to act as somebody else.
    """
    parts = payload.split(b"\x00")
    if len(parts) != 3:
        raise Refusal("501 5.5.2 PLAIN is identity, user name and password with NUL in between")
    acting_as, user, password = (read_text(part) for part in parts)
    if acting_as not in ("", user):
        raise Refusal("535 5.7.8 Nobody can act as somebody else here")
    return user, password


def read_text(value: bytes) -> str:
    """Return a user name or password as text.

    Raises:
        Refusal: it is no UTF-8.
    """
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("501 5.5.2 Write in UTF-8") from None
