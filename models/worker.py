"""Which workers are alive: each says so every few seconds; the pages tell when none does. And who asked for one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import Instant

NAME_MAX = 120


class WorkerProcess(Model):
    __tablename__ = "worker_processes"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_MAX))  # host and process id
    threads: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)  # database clock


class StoreNudge(Model):
    """Whether a worker was told of a store's new mail and has not looked yet; then nobody needs to tell again."""

    __tablename__ = "store_nudges"

    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True)
    is_pending: Mapped[bool] = mapped_column(Boolean, default=False)
