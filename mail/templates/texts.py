"""The texts of a store's templates as messages need them: known ones, for as long as nobody changed anything.

One statement asks for the marks of everything that goes into them: numbers and times that every change moves, and
versions, which are never changed. Texts themselves are read when a mark has moved. Reads in transactions of its own.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, bindparam, func, select
from sqlalchemy.exc import NoResultFound

from extensions import db
from mail.templates import stored
from mail.templates.kinds import Kind
from mail.templates.rendering import Look
from mail.templates.stored import InForce
from models import Brand, Store, TemplateSwitch, TemplateVersion
from models.database import reading
from models.prepared import Prepared

KNOWN_MAX = 500

_versions = TemplateVersion.__table__.c
_of_kind = (_versions.store_id == bindparam("store"), _versions.kind == bindparam("kind"))
_marks = Prepared(
    select(
        Store.__table__.c.name,
        Store.__table__.c.domain,
        Brand.__table__.c.version,
        Brand.__table__.c.updated_at,
        select(func.max(_versions.id)).where(*_of_kind).scalar_subquery(),
        select(func.count()).select_from(TemplateVersion).where(*_of_kind).scalar_subquery(),
        select(func.count())
        .select_from(TemplateSwitch)
        .where(TemplateSwitch.store_id == bindparam("store"), TemplateSwitch.kind == bindparam("kind"))
        .scalar_subquery(),
    )
    .select_from(Store.__table__.outerjoin(Brand.__table__, Brand.store_id == Store.id))
    .where(Store.__table__.c.id == bindparam("store"))
)


@dataclass(frozen=True)
class Texts:
    """What a store has for one kind in one locale.

    Attributes:
        own_sample: of texts that the store wrote.
    """

    look: Look
    in_force: InForce
    own_sample: Mapping[str, Any] | None
    is_off: bool


class _Known:
    """Texts by store, kind and locale with the marks that they were read at; what was used least goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[int, str, str], tuple[object, Texts]] = OrderedDict()

    def get(self, key: tuple[int, str, str], marks: object) -> Texts | None:
        with self._lock:
            known = self._found.get(key)
            if known is None or known[0] != marks:
                return None
            self._found.move_to_end(key)
            return known[1]

    def put(self, key: tuple[int, str, str], marks: object, texts: Texts) -> None:
        with self._lock:
            self._found[key] = marks, texts
            self._found.move_to_end(key)
            if len(self._found) > KNOWN_MAX:
                self._found.popitem(last=False)


_by_database: WeakKeyDictionary[Engine, _Known] = WeakKeyDictionary()


def texts_of(store_id: int, kind: Kind, locale: str | None) -> Texts:
    """Return the texts in force for this locale, or for the store's; no transaction is open afterwards.

    Raises:
        sqlalchemy.exc.NoResultFound: the store is gone.
    """
    known = _by_database.setdefault(db.engine, _Known())
    key = store_id, kind.key, locale or ""
    with reading():
        # Before the texts: what is changed in between is read anew the next time.
        marks = _marks.first(db.engine, {"store": store_id, "kind": kind.key})
        if marks is None:
            raise NoResultFound(f"there is no store {store_id}")
        found = known.get(key, marks)
        if found is None:
            found = _read(store_id, kind, locale)
            known.put(key, marks, found)
    return found


def _read(store_id: int, kind: Kind, locale: str | None) -> Texts:
    try:
        look = stored.look_of(db.session.get_one(Store, store_id))
        in_force = stored.in_force(store_id, kind, locale or look.locale, look.locale)
        is_off = stored.is_off(store_id, kind)
    finally:
        db.session.rollback()
    return Texts(look, in_force, None if in_force.is_default else sample_from(in_force.sample), is_off)


def sample_from(text: str) -> Mapping[str, Any]:
    """The sample that was typed, as an object."""
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}
