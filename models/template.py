"""A store's own email templates: versions of what it wrote, which kinds are off, and how its mail looks.

A kind without a version goes by the default that comes with Storepost.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import BigId, Instant, utcnow

KIND_MAX = 40
LOCALE_MAX = 16
# Shop systems know orders in more languages than this; each is a set of texts that somebody has to keep.
LOCALES_MAX = 30
TEMPLATE_SUBJECT_MAX = 500
PREHEADER_MAX = 500
# A rendered mail is to stay below 100 KB, where Gmail clips it: a source beyond that cannot.
SOURCE_MAX = 100_000
SAMPLE_MAX = 50_000
URL_MAX = 500
ADDRESS_LINES_MAX = 500
LEGAL_MAX = 2000
# Of a store without a brand
LOGO_WIDTH = 160  # CSS pixels
ACCENT = "#2153d4"
HEADER_COLOR = "#ffffff"
LOCALE = "en"
TIME_ZONE = "UTC"
CURRENCY = "EUR"


class TemplateVersion(Model):
    """What a store wrote for one kind in one locale; the highest number is in force. Rows are never changed.

    `is_default` marks a version that went back to the default: its texts are empty, and the default is rendered.
    """

    __tablename__ = "template_versions"
    # Two people who save at once both write the next number, and one of them is told.
    __table_args__ = (UniqueConstraint("store_id", "kind", "locale", "number"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(KIND_MAX))
    locale: Mapped[str] = mapped_column(String(LOCALE_MAX))
    number: Mapped[int] = mapped_column(Integer)
    is_default: Mapped[bool] = mapped_column(Boolean, default=False)
    subject: Mapped[str] = mapped_column(Text, default="")
    preheader: Mapped[str] = mapped_column(Text, default="")
    html: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")  # empty: derived from the HTML
    sample: Mapped[str] = mapped_column(Text, default="")  # JSON as it was typed
    made_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    made_by: Mapped[str] = mapped_column(String(320), default="")
    # Where it came from: "saved", "restored 3", "reset", "removed" (a locale without a default), "copied"
    origin: Mapped[str] = mapped_column(String(40), default="saved")


class TemplateSwitch(Model):
    """A kind of mail that a store does not send, while the row is there."""

    __tablename__ = "template_switches"

    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(KIND_MAX), primary_key=True)
    off_since: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    off_by: Mapped[str] = mapped_column(String(320), default="")


class Brand(Model):
    """How a store's mails look and what stands below them; a store without a row has the defaults."""

    __tablename__ = "brands"

    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, default=1)
    display_name: Mapped[str] = mapped_column(String(150), default="")  # empty: the store's name
    logo_url: Mapped[str] = mapped_column(String(URL_MAX), default="")
    logo_width: Mapped[int] = mapped_column(Integer, default=LOGO_WIDTH)  # CSS pixels, 40 to 320
    website_url: Mapped[str] = mapped_column(String(URL_MAX), default="")
    support_email: Mapped[str] = mapped_column(String(320), default="")
    accent: Mapped[str] = mapped_column(String(7), default=ACCENT)  # "#rrggbb": buttons and links
    header_color: Mapped[str] = mapped_column(String(7), default=HEADER_COLOR)
    address: Mapped[str] = mapped_column(Text, default="")  # lines
    legal: Mapped[str] = mapped_column(Text, default="")  # lines
    locale: Mapped[str] = mapped_column(String(LOCALE_MAX), default=LOCALE)
    time_zone: Mapped[str] = mapped_column(String(64), default=TIME_ZONE)
    currency: Mapped[str] = mapped_column(String(3), default=CURRENCY)
    updated_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    updated_by: Mapped[str] = mapped_column(String(320), default="")
