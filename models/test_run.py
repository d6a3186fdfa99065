"""One press of Test Email Settings: its steps as they happen, and what it taught."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.email_settings import Method
from models.types import Instant, enum_column, new_uid


class TestStatus(enum.StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    STOPPED = "stopped"  # the process that ran it ended; nothing is known beyond the last step
    CANCELLED = "cancelled"  # somebody called it off before anything was sent


class TestRun(Model):
    __tablename__ = "test_runs"
    __table_args__ = (Index("ix_test_runs_store_id_started_at", "store_id", "started_at"),)
    __test__ = False  # not a pytest class, whatever its name says

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    method: Mapped[Method] = mapped_column(enum_column(Method))
    provider: Mapped[str] = mapped_column(String(40), default="other")
    status: Mapped[TestStatus] = mapped_column(enum_column(TestStatus), default=TestStatus.RUNNING)
    recipient: Mapped[str] = mapped_column(String(320))
    tests_unsaved: Mapped[bool] = mapped_column(Boolean, default=False)
    # What was on the screen, unsaved secrets included; sealed, and wiped when the run ends or, before that, when its
    # message is about to be committed: a running test without it cannot be cancelled any more
    settings_sealed: Mapped[str | None] = mapped_column(Text)
    # List of {"stage", "state", "facts", "started_ms", "duration_ms"}; the order of product.md 5
    steps: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # {"stage", "code", "detail", "family", ...}
    started_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(Instant)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Instant)
