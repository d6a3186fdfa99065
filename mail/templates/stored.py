"""What a store wrote for its mails: the texts in force, their versions, and which kinds are off. Only writer of them.

Texts are never changed: each save, reset and restore appends a version, so each can be undone. The caller commits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import ColumnElement, Row, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from extensions import db
from mail import audit
from mail.audit import Actor
from mail.drafts import StaleSave
from mail.templates import brand, kinds
from mail.templates.brand import look_of
from mail.templates.drafts import Draft, examine, tidied
from mail.templates.kinds import DEFAULT_LOCALES, Kind, Source
from mail.templates.locales import standing_in
from mail.templates.rendering import Problem
from models import Store, TemplateSwitch, TemplateVersion
from models.template import LOCALES_MAX

__all__ = [
    "DEFAULT_LOCALES",
    "VERSIONS_MAX",
    "InForce",
    "NotAccepted",
    "Overview",
    "StaleSave",
    "TemplateVersion",
    "copy_to",
    "draft_of",
    "in_force",
    "is_off",
    "latest_number",
    "look_of",
    "off_kinds",
    "overview",
    "reset",
    "restore",
    "save",
    "switch",
    "version",
    "versions",
    "without_own",
]

# Of one kind in one locale; what was written before is forgotten.
VERSIONS_MAX: Final = 50


@dataclass(frozen=True)
class InForce:
    """The texts by which a kind goes out now.

    Attributes:
        locale: of these texts: the one asked for, or what stands in for it.
        number: of the version, or 0 for the default.
        sample: JSON as it was typed, or the default's.
    """

    kind: Kind
    locale: str
    source: Source
    sample: str
    number: int
    is_default: bool

    @property
    def draft(self) -> Draft:
        """The same texts as an editor holds them."""
        source = self.source
        return Draft(source.subject, source.preheader, source.html, source.text, self.sample)


class NotAccepted(Exception):
    """These texts do not render with their sample, or break a bound; `problems` say where, errors only."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems[0].message if problems else "")
        self.problems = problems


# --- What goes out


def in_force(store_id: int, kind: Kind, locale: str, fallback: str) -> InForce:
    """Return the texts for the first of these locales that has any: "de-AT", "de", `fallback` (the store's), "en".

    A store's version goes before the default of the same locale.
    """
    tags = standing_in(locale, fallback)
    mine = (*_latest(store_id), TemplateVersion.kind == kind.key, TemplateVersion.locale.in_(tags))
    latest = {row.locale: row for row in db.session.scalars(select(TemplateVersion).where(*mine))}
    for tag in tags:
        row = latest.get(tag)
        if row is not None and not row.is_default:
            return _as_in_force(kind, row)
        if tag in DEFAULT_LOCALES:
            return default_in(kind, tag)
    return default_in(kind, "en")


def without_own(store_id: int, kind: Kind, locale: str, fallback: str) -> InForce:
    """Return the texts that would go out if this store had none of its own in this locale."""
    if locale in DEFAULT_LOCALES:
        return default_in(kind, locale)
    rest = [tag for tag in standing_in(locale, fallback) if tag != locale]
    return in_force(store_id, kind, rest[0], fallback)


def default_in(kind: Kind, locale: str) -> InForce:
    """Return the texts and the sample that come with Storepost, in a locale that has some."""
    sample = _sample_text(kind.key, locale)
    return InForce(kind, locale, kinds.default_source(kind, locale), sample, number=0, is_default=True)


@lru_cache(maxsize=256)
def _sample_text(key: str, locale: str) -> str:
    # Every message by template passes here, and only an editor wants the sample.
    kind = kinds.find(key)
    return json.dumps(kinds.sample(kind, locale), indent=2, ensure_ascii=False) if kind else "{}"


def _latest(store_id: int) -> tuple[ColumnElement[bool], ...]:
    """What is true of a store's version that no later one of its kind and locale follows."""
    later = aliased(TemplateVersion)
    highest = (
        select(func.max(later.number))
        .where(
            later.store_id == TemplateVersion.store_id,
            later.kind == TemplateVersion.kind,
            later.locale == TemplateVersion.locale,
        )
        .scalar_subquery()
    )
    return TemplateVersion.store_id == store_id, TemplateVersion.number == highest


def _as_in_force(kind: Kind, row: TemplateVersion) -> InForce:
    return InForce(kind, row.locale, draft_of(row).source, row.sample, number=row.number, is_default=False)


def draft_of(row: TemplateVersion) -> Draft:
    """Return the texts of a version as an editor holds them."""
    return Draft(row.subject, row.preheader, row.html, row.text, row.sample)


# --- Switches


def is_off(store_id: int, kind: Kind) -> bool:
    """Whether the store does not send mails of this kind."""
    query = select(TemplateSwitch.kind).where(TemplateSwitch.store_id == store_id, TemplateSwitch.kind == kind.key)
    return db.session.scalar(query) is not None


def off_kinds(store_id: int) -> dict[str, TemplateSwitch]:
    """Return the kinds that the store does not send, by key, with since when and by whom."""
    rows = db.session.scalars(select(TemplateSwitch).where(TemplateSwitch.store_id == store_id))
    return {row.kind: row for row in rows}


def switch(store: Store, kind: Kind, *, off: bool, actor: Actor) -> bool:
    """Stop or begin sending mails of this kind; False when it is so already."""
    if is_off(store.id, kind) == off:
        return False
    if not off:
        where = (TemplateSwitch.store_id == store.id, TemplateSwitch.kind == kind.key)
        db.session.execute(delete(TemplateSwitch).where(*where))
    else:
        try:
            with db.session.begin_nested():
                db.session.add(TemplateSwitch(store_id=store.id, kind=kind.key, off_by=actor.name))
        except IntegrityError:  # somebody else did the same at the same time
            return False
    audit.record(actor, "template_switched", store, fields=[kind.key], detail=f"{kind.name}: {'off' if off else 'on'}")
    return True


# --- Versions


@dataclass(frozen=True)
class Overview:
    """What there is of one kind in one locale, without its texts: its latest version."""

    kind: str
    locale: str
    number: int
    is_default: bool
    made_at: datetime
    made_by: str


def overview(store_id: int, kind: Kind | None = None) -> list[Overview]:
    """Return the latest version of every kind (or this one) in every locale that was ever written, by locale."""
    columns = [getattr(TemplateVersion, name) for name in Overview.__dataclass_fields__]
    query = select(*columns).where(*_latest(store_id))
    if kind is not None:
        query = query.where(TemplateVersion.kind == kind.key)
    return [Overview(*row) for row in db.session.execute(query.order_by(TemplateVersion.kind, TemplateVersion.locale))]


def latest_number(store_id: int, kind: Kind, locale: str) -> int:
    """Return the highest number in this locale, 0 when nothing was ever written in it: what a save expects."""
    query = select(func.max(TemplateVersion.number)).where(*_of(store_id, kind, locale))
    return db.session.scalar(query) or 0


def versions(store_id: int, kind: Kind, locale: str) -> list[Row[int, bool, str, datetime, str]]:
    """Return number, is_default, origin, made_at and made_by of the versions kept, latest first; not their texts."""
    names = ("number", "is_default", "origin", "made_at", "made_by")
    query = select(*(getattr(TemplateVersion, name) for name in names)).where(*_of(store_id, kind, locale))
    return list(db.session.execute(query.order_by(TemplateVersion.number.desc())))


def version(store_id: int, kind: Kind, locale: str, number: int) -> TemplateVersion | None:
    """Return one version with its texts, or None."""
    return db.session.scalar(
        select(TemplateVersion).where(*_of(store_id, kind, locale), TemplateVersion.number == number)
    )


def _of(store_id: int, kind: Kind, locale: str) -> tuple[ColumnElement[bool], ...]:
    return (
        TemplateVersion.store_id == store_id,
        TemplateVersion.kind == kind.key,
        TemplateVersion.locale == locale,
    )


def save(store: Store, kind: Kind, locale: str, draft: Draft, *, expected_number: int, actor: Actor) -> bool:
    """Append these texts as a version; False when they are in force in this locale already.

    `expected_number` is the `latest_number` that the editor was filled at.

    Raises:
        NotAccepted: they do not render with their sample, or break a bound; all that is wrong.
        StaleSave: somebody else saved, reset or restored since.
    """
    changed = _put(store, kind, locale, draft, expected_number=expected_number, actor=actor, origin="saved")
    if changed:
        audit.record(actor, "template_saved", store, fields=changed, detail=_what(kind, locale))
    return bool(changed)


def _put(
    store: Store, kind: Kind, locale: str, draft: Draft, *, expected_number: int, actor: Actor, origin: str
) -> list[str]:
    """Append texts that are fit to go out, and return which parts they change; none when they are in force already."""
    found = examine(kind, draft, look_of(store), locale)
    if found.errors:
        raise NotAccepted(found.errors)
    present = in_force(store.id, kind, locale, locale)
    before, after = vars(tidied(present.draft)), vars(found.draft)
    changed = [part for part in after if before[part] != after[part]]
    if present.locale == locale and not changed:
        return []
    _append(store, kind, locale, found.draft, expected_number=expected_number, actor=actor, origin=origin)
    # The first texts of a locale may be what stood in for them.
    return changed or ["locale"]


def reset(store: Store, kind: Kind, locale: str, *, expected_number: int, actor: Actor) -> bool:
    """Go back to the default, with a version that says so; False when nothing else is in force.

    In a locale that has no default this takes its texts out: the next locale's stand in.

    Raises:
        StaleSave: somebody else saved, reset or restored since.
    """
    present = in_force(store.id, kind, locale, locale)
    if present.locale != locale or present.is_default:
        return False
    origin = "reset" if locale in DEFAULT_LOCALES else "removed"
    _append(store, kind, locale, None, expected_number=expected_number, actor=actor, origin=origin)
    audit.record(actor, "template_reset", store, fields=[origin], detail=_what(kind, locale))
    return True


def restore(store: Store, kind: Kind, locale: str, number: int, *, expected_number: int, actor: Actor) -> bool:
    """Put the texts of an earlier version in force again; False when they are, or when that version is not kept.

    Raises:
        NotAccepted: they no longer render with their sample.
        StaleSave: somebody else saved, reset or restored since.
    """
    old = version(store.id, kind, locale, number)
    if old is None:
        return False
    if old.is_default:
        return reset(store, kind, locale, expected_number=expected_number, actor=actor)
    draft = draft_of(old)
    origin = f"restored {number}"
    changed = _put(store, kind, locale, draft, expected_number=expected_number, actor=actor, origin=origin)
    if changed:
        audit.record(actor, "template_restored", store, fields=[f"version {number}"], detail=_what(kind, locale))
    return bool(changed)


def _what(kind: Kind, locale: str) -> str:
    return f"{kind.name} ({locale})"


def _append(
    store: Store, kind: Kind, locale: str, draft: Draft | None, *, expected_number: int, actor: Actor, origin: str
) -> None:
    """Write the next version; without a draft, one that stands for the default."""
    if latest_number(store.id, kind, locale) != expected_number:
        raise StaleSave
    if expected_number == 0:
        _refuse_too_many(store.id, kind)
    number = expected_number + 1
    row = TemplateVersion(
        store_id=store.id,
        kind=kind.key,
        locale=locale,
        number=number,
        is_default=draft is None,
        made_by=actor.name,
        origin=origin,
        **(vars(draft) if draft else {}),
    )
    try:
        with db.session.begin_nested():
            db.session.add(row)
    except IntegrityError:  # two at the same time write the same number, and the second one comes here
        raise StaleSave from None
    forgotten = (*_of(store.id, kind, locale), TemplateVersion.number <= number - VERSIONS_MAX)
    db.session.execute(delete(TemplateVersion).where(*forgotten))


def _refuse_too_many(store_id: int, kind: Kind) -> None:
    query = select(func.count(TemplateVersion.locale.distinct())).where(
        TemplateVersion.store_id == store_id, TemplateVersion.kind == kind.key
    )
    if (db.session.scalar(query) or 0) >= LOCALES_MAX:
        raise NotAccepted((Problem("subject", None, f"Use {LOCALES_MAX} languages or fewer for one kind of mail"),))


# --- Copying a store


def copy_to(source: Store, target: Store, *, actor: Actor) -> None:
    """Give a new store the texts in force, the samples, the switches and the brand of another; not the versions."""
    brand.copy(source, target, actor=actor)
    for key in off_kinds(source.id):
        db.session.add(TemplateSwitch(store_id=target.id, kind=key, off_by=actor.name))
    for row in db.session.scalars(
        select(TemplateVersion).where(*_latest(source.id), TemplateVersion.is_default.is_(False))
    ).all():
        db.session.add(
            TemplateVersion(
                store_id=target.id,
                kind=row.kind,
                locale=row.locale,
                number=1,
                made_by=actor.name,
                origin="copied",
                **vars(draft_of(row)),
            )
        )
