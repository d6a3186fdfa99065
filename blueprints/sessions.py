"""Server-side sessions: the cookie holds a random token, the row is found by its hash.

Rows are read and written on a connection of their own, never on the request's database session: a page that ends
with an error must not lose the sign-in, and saving a session must never commit somebody's half-made change.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import timedelta
from typing import Any

from flask import Flask, Request, Response
from flask import request as current_request
from flask.sessions import SessionInterface, SessionMixin
from sqlalchemy import delete, insert, select, update
from werkzeug.datastructures import CallbackDict

from extensions import db
from models import User, UserSession
from models.database import reading, writing
from models.types import utcnow

IDLE_LIMIT = timedelta(minutes=30)
ABSOLUTE_LIMIT = timedelta(hours=12)
# How stale last-seen may get before a request writes it again: a write on every GET would serialise all readers.
SEEN_EVERY = timedelta(minutes=1)

# Addresses that answer everybody alike: no row is read for them.
WITHOUT_SESSION = ("/static/", "/healthz", "/readyz", "/api/")


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode("ascii", "replace")).hexdigest()


class StoredSession(CallbackDict[str, Any], SessionMixin):
    def __init__(self, data: dict[str, Any] | None = None, token: str | None = None, *, stale: bool = False):
        def on_change(session: CallbackDict[str, Any]) -> None:
            session.modified = True  # type: ignore[attr-defined]  # it is always ours

        super().__init__(data or {}, on_change)
        self.token = token
        self.replaces: str | None = None
        self.new = token is None
        self.modified = False
        self.stale = stale

    def renew(self) -> None:
        """Move to a new token, so that a token known before sign-in is worth nothing after it."""
        self.replaces = self.replaces or self.token
        self.token = None
        self.modified = True

    @property
    def hash(self) -> str:
        """The stored name of this session; what a Connect is bound to."""
        if self.token is None:
            self.token = secrets.token_urlsafe(32)
            self.modified = True
        return hash_token(self.token)


class StoredSessions(SessionInterface):
    def open_session(self, app: Flask, request: Request) -> StoredSession:
        if request.path.startswith(WITHOUT_SESSION):
            return StoredSession()
        token = request.cookies.get(self.get_cookie_name(app))
        if not token:
            return StoredSession()
        now = utcnow()
        with reading(), db.engine.connect() as connection:
            row = connection.execute(
                select(UserSession.data, UserSession.last_seen_at).where(
                    UserSession.token_hash == hash_token(token),
                    UserSession.ended_at.is_(None),
                    UserSession.last_seen_at > now - IDLE_LIMIT,
                    UserSession.created_at > now - ABSOLUTE_LIMIT,
                )
            ).first()
        if row is None:
            return StoredSession()
        return StoredSession(json.loads(row.data), token, stale=row.last_seen_at < now - SEEN_EVERY)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        assert isinstance(session, StoredSession)
        if not (session.modified or session.stale):
            return
        # A view that ended without committing still holds SQLite's write lock; let it go first.
        db.session.remove()
        if session.modified and not session and session.token is None and session.replaces is None:
            return
        with writing(), db.engine.begin() as connection:
            if session.replaces:
                connection.execute(delete(UserSession).where(UserSession.token_hash == hash_token(session.replaces)))
            if not session and session.token is None:
                response.delete_cookie(self.get_cookie_name(app), path="/")
                return
            now = utcnow()
            values: dict[str, Any] = {"last_seen_at": now}
            if session.modified:
                uniquifier = session.get("_user_id")
                values["data"] = json.dumps(dict(session))
                values["user_id"] = (
                    connection.scalar(select(User.id).where(User.fs_uniquifier == uniquifier)) if uniquifier else None
                )
            fresh_token = session.token is None
            known = (
                not fresh_token
                and connection.execute(
                    update(UserSession)
                    .where(UserSession.token_hash == session.hash, UserSession.ended_at.is_(None))
                    .values(values)
                ).rowcount
            )
            if not known and not fresh_token:
                # Ended meanwhile by somebody else: do not bring it back.
                response.delete_cookie(self.get_cookie_name(app), path="/")
                return
            if not known:
                connection.execute(
                    insert(UserSession).values(
                        token_hash=session.hash,
                        created_at=now,
                        address=(current_request.remote_addr or "")[:64],
                        user_agent=current_request.user_agent.string[:255],
                        **values,
                    )
                )
        response.set_cookie(
            self.get_cookie_name(app),
            session.token or "",
            httponly=True,
            secure=app.config["SESSION_COOKIE_SECURE"],
            samesite="Lax",
            path="/",
        )
