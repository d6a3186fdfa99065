"""What people have to be told about a connection: a row for each trouble or announcement, with begin and end."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import BigId, Instant, enum_column, new_uid

OCCASION_MAX = 64


class NoticeKind(enum.StrEnum):
    # Troubles: the connection's state while they last
    LOST = "lost"
    SETTINGS_WRONG = "settings_wrong"
    FAILING = "failing"
    # Announcements of what will end
    SECRET_ENDS = "secret_ends"  # noqa: S105  a client secret runs out
    TESTING_ENDS = "testing_ends"  # a grant of an app that its provider regards as being tested
    IDLE_ENDS = "idle_ends"  # a grant that was not used for long


class Notice(Model):
    """Written by the process that noticed, in the transaction that made it so; who tells people reads it later.

    `occasion` names what it is about, so that processes which notice the same thing write one row.
    """

    __tablename__ = "connection_notices"
    __table_args__ = (
        UniqueConstraint("connection_id", "kind", "occasion"),
        Index("ix_connection_notices_begun_at", "begun_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"))
    kind: Mapped[NoticeKind] = mapped_column(enum_column(NoticeKind))
    occasion: Mapped[str] = mapped_column(String(OCCASION_MAX))
    begun_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    foreseen_at: Mapped[datetime | None] = mapped_column(Instant)  # when what is announced will happen
    stage: Mapped[str] = mapped_column(String(16), default="")
    code: Mapped[str] = mapped_column(String(80), default="")
    detail: Mapped[str] = mapped_column(Text, default="")  # the provider's words, secrets masked
