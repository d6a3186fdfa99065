"""What the pages of a store's templates show, put together from `mail/templates`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Response, abort, request, url_for

from blueprints import headers
from blueprints.templates import frames
from blueprints.templates.forms import LABELS
from blueprints.web import respond, signed_in_user
from mail.templates import kinds, locales, previews, stored
from mail.templates.drafts import LIMITS, Draft
from mail.templates.kinds import Group, Kind
from mail.templates.rendering import Look, Problem
from mail.templates.stored import InForce, Overview
from models import Store, TemplateSwitch
from models.access import Permission, may

GROUPS = {
    Group.TRANSACTIONAL: ("Orders", "What customers wait for after they bought something."),
    Group.NOTIFICATION: ("Customers", "What people hear about their account, and what they asked for."),
    Group.SYSTEM: ("Staff", "What goes to the people who run the store."),
}
# In every template of every kind.
STORE_NAMES = (
    kinds.Variable("store.name", "the store’s name"),
    kinds.Variable("store.url", "the store’s website, empty without one", kinds.ValueType.URL, is_optional=True),
    kinds.Variable("store.email", "the support address, empty without one", is_optional=True),
)


def is_readonly(store: Store) -> bool:
    """Whether this person may look at the store's templates and brand, and no more."""
    return not may(signed_in_user(), Permission.EDIT_TEMPLATES, store)


# --- Addresses


def slug(kind: Kind) -> str:
    """The kind in a URL."""
    return kind.key.replace("_", "-")


def load_kind(text: str) -> Kind:
    """The kind that this part of a URL names; 404 when there is none."""
    kind = kinds.find(text.replace("-", "_"))
    return kind if kind is not None and slug(kind) == text else abort(404)


def load_locale(text: str) -> str:
    """The locale in a URL, in its one spelling; 404 for any other."""
    try:
        found = locales.parse_locale(text)
    except ValueError:
        abort(404)
    return found if found == text else abort(404)


def url_of(store: Store, endpoint: str, kind: Kind, locale: str, **more: Any) -> str:
    return url_for(f"templates.{endpoint}", store_id=store.id, kind=slug(kind), locale=locale, **more)


# --- The list


@dataclass(frozen=True)
class Row:
    """A kind in the list.

    Attributes:
        own: its locales with texts of the store.
        opens: the locale that its link leads to.
    """

    kind: Kind
    own: tuple[Overview, ...]
    off: TemplateSwitch | None
    locales: tuple[str, ...]
    opens: str

    @property
    def latest(self) -> Overview | None:
        return max(self.own, key=lambda one: one.made_at, default=None)


def load_rows(store: Store, look: Look) -> dict[Group, list[Row]]:
    """Every kind, by group."""
    written: dict[str, list[Overview]] = {}
    for one in stored.overview(store.id):
        if not one.is_default:
            written.setdefault(one.kind, []).append(one)
    off = stored.off_kinds(store.id)
    found: dict[Group, list[Row]] = {group: [] for group in GROUPS}
    for kind in kinds.KINDS:
        found[kind.group].append(_row(kind, tuple(written.get(kind.key, ())), off.get(kind.key), look))
    return found


def load_row(store: Store, kind: Kind, look: Look) -> Row:
    """One kind, as in the list."""
    own = tuple(one for one in stored.overview(store.id, kind) if not one.is_default)
    return _row(kind, own, stored.off_kinds(store.id).get(kind.key), look)


def _row(kind: Kind, own: tuple[Overview, ...], off: TemplateSwitch | None, look: Look) -> Row:
    tags = _locales_of(own)
    opens = next(tag for tag in (*locales.standing_in(look.locale, "en"), tags[0]) if tag in tags)
    return Row(kind, own, off, tags, opens)


def _locales_of(own: tuple[Overview, ...]) -> tuple[str, ...]:
    others = sorted({one.locale for one in own} - set(kinds.DEFAULT_LOCALES))
    return (*kinds.DEFAULT_LOCALES, *others)


# --- The editor


@dataclass
class Editor:
    """What the editor shows: the texts on the screen, what is in force, and what is wrong.

    Attributes:
        expected: the version that a save is over.
        conflict: what differs between the texts on the screen and those saved meanwhile.
    """

    store: Store
    kind: Kind
    locale: str
    look: Look
    present: InForce
    draft: Draft
    expected: int
    problems: tuple[Problem, ...] = ()
    form_errors: tuple[str, ...] = ()
    saved_just_now: bool = False
    conflict: Any = None

    @property
    def is_written(self) -> bool:
        """Whether the store has texts of its own in this very locale."""
        return self.present.locale == self.locale and not self.present.is_default

    @property
    def has_default(self) -> bool:
        """Whether texts in this locale come with Storepost."""
        return self.locale in kinds.DEFAULT_LOCALES


def open_editor(store: Store, kind: Kind, locale: str, draft: Draft | None = None, **more: Any) -> Editor:
    """The editor, filled with what is in force, or with these texts."""
    look = stored.look_of(store)
    present = stored.in_force(store.id, kind, locale, look.locale)
    expected = stored.latest_number(store.id, kind, locale)
    return Editor(store, kind, locale, look, present, draft or present.draft, more.pop("expected", expected), **more)


def show_editor(editor: Editor, fragment: str | None = None, status: int = 200, **more: Any) -> Response:
    """The page, or one of its fragments."""
    headers.show_mail_frames()
    preview = previews.preview(editor.kind, editor.draft, editor.look, editor.locale)
    row = load_row(editor.store, editor.kind, editor.look)
    tags = row.locales if editor.locale in row.locales else (*row.locales, editor.locale)
    return respond(
        "templates/edit.html",
        fragment,
        status=status,
        store=editor.store,
        editor=editor,
        row=row,
        tags=tags,
        labels=LABELS,
        limits=LIMITS,
        by_part=by_part(tuple(dict.fromkeys(editor.problems + preview.examined.problems))),
        preview=preview,
        latest=latest_of(editor, row),
        variables=[(one, previews.snippet(one, editor.kind.variables)) for one in editor.kind.variables],
        blocks=previews.BLOCKS,
        store_names=[(one, previews.snippet(one, ())) for one in STORE_NAMES],
        readonly=is_readonly(editor.store),
        has_errors=status == 422,
        **{"sample": None, "language_error": "", "language": "", "view": frames.view_of(request.form.get("view", ""))}
        | more,
    )


def latest_of(editor: Editor, row: Row) -> tuple[int, datetime, str] | None:
    """(number, when, by whom) of the texts of the store in force in this locale."""
    for one in row.own:
        if one.locale == editor.locale:
            return one.number, one.made_at, one.made_by
    return None


def by_part(problems: tuple[Problem, ...]) -> dict[str, list[Problem]]:
    """The problems at their fields, errors first."""
    return {part: [problem for problem in problems if problem.part == part] for part in LIMITS}
