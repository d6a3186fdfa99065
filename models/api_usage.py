"""How many API requests a key made in each minute: what the rate headers tell, counted for all web processes."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model


class APIUsage(Model):
    __tablename__ = "api_usage"

    api_key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # minutes since 1970
    requests: Mapped[int] = mapped_column(Integer, default=0)
