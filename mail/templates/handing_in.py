"""Mail that an application hands in by template: its kind and data in place of subject, text and HTML.

What is written in the store's texts is fixed when the message is accepted. So a message handed in again is looked for
first: it is answered from what was accepted then, however the template has changed. Reads in short transactions of its
own, before the one that accepts; messages without a template pass by without a question to the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from extensions import db
from mail import accepting, intake
from mail.accepting import Enqueued, HandedIn, IdempotencyConflict
from mail.intake import FieldError, Rejected
from mail.outbox_content import TEMPLATE_OFF, NewMessage
from mail.templates import kinds, rendering, stored
from mail.templates.kinds import Kind
from mail.templates.locales import spelled
from mail.templates.rendering import DataMissing, DoesNotRender, Rendered
from mail.templates.texts import Texts, sample_from, texts_of
from models import Store
from models.database import reading
from models.template import LOCALE_MAX

_WRITTEN = ("subject", "text", "html")

Read = HandedIn | Enqueued | Rejected | IdempotencyConflict


def read_messages(store_id: int, documents: Sequence[Any], keys: Sequence[str | None]) -> list[Read]:
    """Return what each document is, in their order: a message to accept, one accepted before, or why it is refused.

    Raises:
        sqlalchemy.exc.DBAPIError: the store's texts cannot be read.
    """
    desk = _Desk(store_id)
    return [desk.read(document, key) for document, key in zip(documents, keys, strict=True)]


def names_template(document: Any) -> bool:
    """Whether a document wants its texts from a template."""
    return isinstance(document, dict) and document.get("template") is not None


class _Desk:
    """Reads the messages of one request; what they share is read once."""

    def __init__(self, store_id: int) -> None:
        self._store_id = store_id
        self._texts: dict[tuple[str, str | None], Texts] = {}

    def read(self, document: Any, key: str | None) -> Read:
        try:
            if not names_template(document):
                new = intake.read_item(document)
                return HandedIn(new, key, intake.fingerprint(document) if key else None)
            return self._by_template(document, key)
        except (Rejected, IdempotencyConflict) as error:
            return error

    def _by_template(self, document: dict[str, Any], key: str | None) -> HandedIn | Enqueued:
        body_hash = intake.fingerprint(document) if key else None
        if key is not None and body_hash is not None:
            with reading():
                replay = accepting.find_replay(self._store_id, key, body_hash)
                db.session.rollback()
            if replay is not None:
                return replay
        return HandedIn(self._written(document), key, body_hash)

    def _written(self, document: dict[str, Any]) -> NewMessage:
        """The message with its texts filled in. All that is wrong with it is told at once."""
        rest = {name: value for name, value in document.items() if name not in (*intake.TEMPLATE_FIELDS, *_WRITTEN)}
        faults: list[FieldError] = []
        rendered, texts = Rendered("", "", "", "-"), None
        try:
            texts, rendered = self._rendered(document)
        except Rejected as error:
            faults += error.errors
        try:
            # A text that came out empty is still a text.
            new = intake.read_message(
                rest | {"subject": rendered.subject, "text": rendered.text, "html": rendered.html or None}
            )
        except Rejected as error:
            faults += error.errors
        if faults:
            raise Rejected(faults[: intake.FAULTS_MAX])
        if texts is not None and texts.is_off:
            new = replace(new, cancelled_because=TEMPLATE_OFF, cancelled_detail=_is_off(texts.in_force.kind))
        return new

    def _rendered(self, document: dict[str, Any]) -> tuple[Texts, Rendered]:
        faults = [
            FieldError(name, "Leave this out: the template writes it")
            for name in _WRITTEN
            if document.get(name) is not None
        ]
        kind, data, locale = _kind_of(document, faults), _data_of(document, faults), _locale_of(document, faults)
        if faults or kind is None:
            raise Rejected(faults)
        texts = self._texts.get((kind.key, locale))
        if texts is None:
            texts = self._texts[kind.key, locale] = texts_of(self._store_id, kind, locale)
        in_force = texts.in_force
        try:
            found = rendering.render(kind, in_force.source, data, texts.look, in_force.locale, sample=texts.own_sample)
        except DataMissing as error:
            raise Rejected(
                [FieldError(f"data.{path}" if path else "data", words) for path, words in error.faults]
            ) from None
        except DoesNotRender as error:
            raise Rejected([FieldError("template", _does_not_render(kind, error))]) from None
        return texts, found


# What there is ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offered:
    """A template as an application may use it now.

    Attributes:
        locales: that have texts of their own, the store's and those that come with Storepost.
        sample: data that its texts render with, in the store's language.
    """

    kind: Kind
    is_on: bool
    locales: tuple[str, ...]
    sample: Mapping[str, Any]


def offered(store_id: int) -> list[Offered]:
    """Return every template of the store. Reads."""
    own = stored.look_of(db.session.get_one(Store, store_id)).locale
    off = stored.off_kinds(store_id)
    written = [one for one in stored.overview(store_id) if not one.is_default]
    return [
        Offered(
            kind,
            kind.key not in off,
            tuple(sorted({*kinds.DEFAULT_LOCALES, *(one.locale for one in written if one.kind == kind.key)})),
            _sample_in_force(store_id, kind, own, has_own=any(one.kind == kind.key for one in written)),
        )
        for kind in kinds.KINDS
    ]


def _sample_in_force(store_id: int, kind: Kind, locale: str, *, has_own: bool) -> Mapping[str, Any]:
    if has_own:
        return sample_from(stored.in_force(store_id, kind, locale, locale).sample)
    return kinds.sample(kind, locale)


def _kind_of(document: Mapping[str, Any], faults: list[FieldError]) -> Kind | None:
    key = document["template"]
    kind = kinds.find(key) if isinstance(key, str) else None
    if kind is None:
        known = ", ".join(one.key for one in kinds.KINDS)
        faults.append(FieldError("template", f"There is no such template. Use one of {known}"))
    return kind


def _data_of(document: Mapping[str, Any], faults: list[FieldError]) -> dict[str, Any]:
    data = document.get("data")
    if data is not None and not isinstance(data, dict):
        faults.append(FieldError("data", "Send an object with the names that the template has"))
    return data if isinstance(data, dict) else {}


def _locale_of(document: Mapping[str, Any], faults: list[FieldError]) -> str | None:
    locale = document.get("locale")
    if locale is None:
        return None
    tag = spelled(locale) if isinstance(locale, str) and len(locale) <= LOCALE_MAX else None
    if tag is None:
        faults.append(FieldError("locale", "Send a language, like de, or one with a region, like de-AT"))
    return tag


def _is_off(kind: Kind) -> str:
    return f"The template “{kind.name}” is switched off"


def _does_not_render(kind: Kind, error: DoesNotRender) -> str:
    first = error.problems[0]
    where = f", line {first.line} of its {first.part}" if first.line else ""
    return f"The template “{kind.name}” makes no mail of this data{where}: {first.message}"
