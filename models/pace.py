"""How fast a mailbox may be sent through: what is used of its limits, and what the server taught us lately.

A lane is what a provider counts for: a mailbox. With Advanced SMTP that is the connection, which stores may share
("connection:7"); with SMTP the store itself ("store:3").
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import BigId, Instant

LANE_KEY_MAX = 40


class Lane(Model):
    """Made when there is something to remember; a lane without a row has no trouble."""

    __tablename__ = "lanes"

    key: Mapped[str] = mapped_column(String(LANE_KEY_MAX), primary_key=True)
    # The breaker: how often in a row the server could not be used, since when, and until when it is left alone
    failures: Mapped[int] = mapped_column(Integer, default=0)
    failing_since: Mapped[datetime | None] = mapped_column(Instant)
    # A pause that began in the future began before the clock was put back: it does not count
    paused_at: Mapped[datetime | None] = mapped_column(Instant)
    paused_until: Mapped[datetime | None] = mapped_column(Instant)
    pause_code: Mapped[str] = mapped_column(String(80), default="")
    pause_detail: Mapped[str] = mapped_column(Text, default="")  # the server's words, secrets masked
    # After a throttling reply: what is tried instead of the provider's limits, for a while
    slow_until: Mapped[datetime | None] = mapped_column(Instant)
    slow_per_minute: Mapped[int | None] = mapped_column(Integer)
    slow_connections: Mapped[int | None] = mapped_column(Integer)


class LaneSlot(Model):
    """The right to one connection at a time; a lease, free again when it ran out (database clock)."""

    __tablename__ = "lane_slots"
    __table_args__ = (UniqueConstraint("lane_key", "number"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    lane_key: Mapped[str] = mapped_column(String(LANE_KEY_MAX))
    number: Mapped[int] = mapped_column(Integer)
    store_id: Mapped[int | None] = mapped_column(ForeignKey("stores.id", ondelete="SET NULL"))
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(Instant)


class LanePermit(Model):
    """One message of the window: thirty rows for thirty a minute. Taken by stamping the row stamped longest ago."""

    __tablename__ = "lane_permits"
    __table_args__ = (UniqueConstraint("lane_key", "number"), Index(None, "lane_key", "stamped_at"))

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    lane_key: Mapped[str] = mapped_column(String(LANE_KEY_MAX))
    number: Mapped[int] = mapped_column(Integer)
    stamped_at: Mapped[datetime] = mapped_column(Instant)


class LaneRecipients(Model):
    """Recipients written to in one hour (hours since 1970): a day's use is this hour and the 24 before it."""

    __tablename__ = "lane_recipients"

    lane_key: Mapped[str] = mapped_column(String(LANE_KEY_MAX), primary_key=True)
    hour: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    recipients: Mapped[int] = mapped_column(Integer, default=0)
