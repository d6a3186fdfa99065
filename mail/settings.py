"""Load, save, switch method, copy to another store: the only writer of the settings tables.

Nothing here commits; the edge does. The neighbours are offered under this name too: `drafts` (the records), `bindings`
(when a secret must be typed again), `completeness` (what is missing), `routes` (how mail leaves).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import CursorResult, update
from sqlalchemy.orm.attributes import set_committed_value

from extensions import db
from mail import audit, grants, readable
from mail.audit import Actor
from mail.bindings import binding_conflicts
from mail.completeness import Missing, missing
from mail.drafts import (
    KEEP_SECRET,
    REMOVE_SECRET,
    AdvancedDraft,
    Draft,
    General,
    OpenedSecrets,
    SecretAction,
    SecretEdit,
    SecretsNeeded,
    SMTPDraft,
    StaleSave,
    current,
    current_advanced,
    current_smtp,
    custom_value_place,
    load_custom_fields,
    open_secrets,
    password_place,
)
from mail.equipment import Equipment
from mail.grants import is_shared, own_connection, sharers
from mail.routes import Route, SettingsIncomplete, route_for, route_from
from models.connection import Connection
from models.email_settings import FROM_NAME_MAX, CustomField, EmailSettings, Method, UncertainChoice
from models.store import Store
from models.types import new_uid, utcnow
from security.vault import Unreadable

__all__ = [
    "KEEP_SECRET",
    "REMOVE_SECRET",
    "AdvancedDraft",
    "CannotCopy",
    "Draft",
    "General",
    "Missing",
    "OpenedSecrets",
    "Route",
    "SMTPDraft",
    "SaveResult",
    "SecretAction",
    "SecretEdit",
    "SecretsNeeded",
    "SettingsIncomplete",
    "StaleSave",
    "binding_conflicts",
    "choose_on_uncertain",
    "copy_to",
    "create_for",
    "current_advanced",
    "current_smtp",
    "load_custom_fields",
    "mailbox_of",
    "missing",
    "open_secrets",
    "own_connection",
    "route_for",
    "route_from",
    "save",
    "sharers",
    "switch_method",
]


@dataclass(frozen=True)
class SaveResult:
    """What a save did.

    Attributes:
        changed: form fields, secrets as "client_secret: replaced"; empty when everything was stored already.
        split_from: names of the stores that shared the connection until this save gave the store its own.
        sharers: names of the stores that a replaced client secret now applies to as well.
    """

    changed: tuple[str, ...] = ()
    split_from: tuple[str, ...] = ()
    sharers: tuple[str, ...] = ()


class CannotCopy(Exception):
    """A saved secret does not open, so a copy of these settings would be without it; nothing was written."""


def create_for(store: Store, *, from_name: str = "") -> EmailSettings:
    """Return the settings of a new store: Advanced SMTP, a fresh connection filled from the first preset, SSL on."""
    settings = EmailSettings(
        store=store, uid=new_uid(), method=Method.ADVANCED_SMTP, use_ssl=True, from_name=from_name[:FROM_NAME_MAX]
    )
    settings.connection, host, port = grants.fresh()
    settings.advanced_smtp_host, settings.advanced_smtp_port = host, port
    db.session.add(settings)
    return settings


def mailbox_of(settings: EmailSettings) -> str:
    """Return the address that the active method sends as or signs in with, or an empty text."""
    connection = settings.connection
    if settings.method == Method.ADVANCED_SMTP and connection and connection.account:
        return connection.account
    return settings.from_email


def save(
    settings: EmailSettings,
    draft: Draft,
    *,
    expected_version: int,
    actor: Actor,
    equipment: Equipment,
    connecting: bool = False,
) -> SaveResult:
    """Store what is on the screen and return what that changed; what is stored already changes nothing.

    `connecting`: Connect follows, so a refresh token that belongs to the old place is dropped instead of asked for.

    Raises:
        StaleSave: somebody else saved since `expected_version`.
        SecretsNeeded: stored secrets would go to another place than they were given for, or do not open. The caller
            rolls back.
    """
    changed = _changes(settings, draft, equipment)
    if not changed:
        return SaveResult()
    if settings.version != expected_version:
        raise StaleSave
    split = (
        isinstance(draft, AdvancedDraft)
        and is_shared(settings)
        and grants.needs_own(settings, draft, changed, equipment)
    )
    conflicts = binding_conflicts(settings, draft, equipment, connecting=connecting, shared=split)
    if conflicts:
        raise SecretsNeeded(conflicts)
    result = SaveResult()
    _claim_version(settings, expected_version, actor)
    if isinstance(draft, SMTPDraft):
        changed += grants.pin_login(settings, draft.general.from_email)
        _write_smtp(settings, draft, changed, actor, equipment)
    else:
        others = tuple(store.name for store in sharers(settings))
        try:
            changed = grants.write(settings, draft, changed, actor, equipment, connecting=connecting, split=split)
        except Unreadable:
            # The store leaves a shared connection and would take along what does not open.
            raise SecretsNeeded(_to_type_again(draft)) from None
        settings.advanced_smtp_host, settings.advanced_smtp_port = draft.smtp_host, draft.smtp_port
        if draft.custom_fields is not None and "custom_fields" in changed:
            _write_custom_fields(settings, draft.custom_fields, equipment)
        shares_secret = not split and any(name.startswith("client_secret:") for name in changed)
        result = SaveResult(split_from=others if split else (), sharers=others if shares_secret else ())
    _write_general(settings, draft.general, actor)
    audit.record(actor, "settings_saved", settings.store, fields=changed, detail=_detail(changed, draft.general))
    return replace(result, changed=tuple(changed))


def _to_type_again(draft: AdvancedDraft) -> dict[str, str]:
    if draft.client_secret.action == SecretAction.KEEP:
        return {"client_secret": "The saved client secret does not open any more. Type it again, or remove it."}
    return {"custom_fields": "The saved custom fields do not open any more. Enter them again."}


def switch_method(settings: EmailSettings, method: Method, *, expected_version: int, actor: Actor) -> bool:
    """Make the other method the active one, keeping both sets of values; False when it is active already.

    Raises:
        StaleSave: somebody else saved since `expected_version`.
    """
    if settings.method == method:
        return False
    if settings.version != expected_version:
        raise StaleSave
    _claim_version(settings, expected_version, actor)
    settings.method = method
    audit.record(actor, "method_switched", settings.store, fields=["method"], detail=str(method))
    return True


def choose_on_uncertain(settings: EmailSettings, choice: UncertainChoice, *, actor: Actor) -> bool:
    """Say what becomes of messages that may have been sent; False when that was the choice already.

    No form of the settings pages shows it, so it does not make one of them stale.
    """
    if settings.on_uncertain == choice:
        return False
    settings.on_uncertain = choice
    audit.record(actor, "uncertain_choice_changed", settings.store, fields=["on_uncertain"], detail=str(choice))
    return True


def copy_to(
    source: EmailSettings, target_store: Store, *, emails_off: bool, actor: Actor, equipment: Equipment
) -> EmailSettings:
    """Return new settings for a store with everything of the source; the connection row itself is shared.

    Secrets are sealed anew, because a sealed value opens only in its own row.

    Raises:
        CannotCopy: a secret of the source does not open.
    """
    try:
        fields = load_custom_fields(source, equipment)
        password = open_secrets(current_smtp(source, equipment), source, equipment).password
    except Unreadable as trouble:
        raise CannotCopy from trouble
    copy = EmailSettings(uid=new_uid(), connection_id=source.connection_id)
    for column in ("from_name", "from_email", "bcc", "use_ssl", "emails_off", "emails_off_since", "emails_off_by"):
        setattr(copy, column, getattr(source, column))
    copy.on_uncertain = source.on_uncertain
    for column in ("smtp_host", "smtp_port", "username", "password_set_at", "password_set_by"):
        setattr(copy, column, getattr(source, column))
    for column in ("method", "advanced_smtp_host", "advanced_smtp_port"):
        setattr(copy, column, getattr(source, column))
    if password is not None:
        copy.password_sealed = equipment.vault.seal(password, password_place(copy))
    if emails_off and not source.emails_off:
        copy.emails_off, copy.emails_off_since, copy.emails_off_by = True, utcnow(), actor.name
    copy.updated_by = actor.name
    copy.custom_fields = _sealed_fields(fields, equipment)
    target_store.email_settings = copy
    audit.record(actor, "store_copied", target_store, detail=f"from {source.store.code}")
    return copy


# --- What changes


def _changes(settings: EmailSettings, draft: Draft, equipment: Equipment) -> list[str]:
    """The names of what this draft would change, in the order of the form; secrets with what happens to them."""
    stored = current(settings, Method.SMTP if isinstance(draft, SMTPDraft) else Method.ADVANCED_SMTP, equipment)
    found = [name for name in vars(draft.general) if getattr(draft.general, name) != getattr(stored.general, name)]
    for name in vars(draft):
        value = getattr(draft, name)
        if isinstance(value, SecretEdit):
            found += _secret_change(name, value, settings, equipment)
        elif name not in ("general", "custom_fields") and value != getattr(stored, name):
            found.append(name)
    # An unreadable stored list is None here, so a new one always counts as a change.
    if isinstance(draft, AdvancedDraft) and draft.custom_fields not in (
        None,
        cast(AdvancedDraft, stored).custom_fields,
    ):
        found.append("custom_fields")
    elif isinstance(draft, AdvancedDraft) and draft.custom_fields is not None:
        found += _token_parameter_change(settings, equipment)
    return found


def _token_parameter_change(settings: EmailSettings, equipment: Equipment) -> list[str]:
    """What custom fields add to token calls is kept a second time, with the grant; if that broke, a save mends it."""
    connection = settings.connection
    opens = connection is None or readable.column_opens(connection, "token_parameters_sealed", equipment)
    return [] if opens else ["custom_fields: entered again"]


def _secret_change(name: str, edit: SecretEdit, settings: EmailSettings, equipment: Equipment) -> list[str]:
    holder = settings if name == "password" else settings.connection
    sealed = getattr(holder, f"{name}_sealed") if holder else None
    if edit.action == SecretAction.REMOVE:
        return [f"{name}: removed"] if sealed else []
    if edit.action == SecretAction.KEEP:
        return []
    if not sealed:
        return [f"{name}: set"]
    # The same secret typed once more mends a connection whose access token does not open: a new one is then fetched.
    is_fine = name == "password" or readable.column_opens(cast(Connection, holder), "access_token_sealed", equipment)
    return [] if is_fine and grants.opens_to(edit.value, name, settings, equipment) else [f"{name}: replaced"]


def _claim_version(settings: EmailSettings, expected: int, actor: Actor) -> None:
    """Count the save up in one conditional statement: of two saves at the same time only one gets through."""
    db.session.flush()
    claimed = db.session.execute(
        update(EmailSettings)
        .where(EmailSettings.id == settings.id, EmailSettings.version == expected)
        .values(version=expected + 1)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[tuple[()]]", claimed).rowcount != 1:
        raise StaleSave
    set_committed_value(settings, "version", expected + 1)
    settings.updated_at, settings.updated_by = utcnow(), actor.name


def _detail(changed: list[str], general: General) -> str:
    if "emails_off" not in changed:
        return ""
    return "Emails turned off" if general.emails_off else "Emails turned on"


# --- Writing


def _write_general(settings: EmailSettings, general: General, actor: Actor) -> None:
    if general.emails_off != settings.emails_off:
        settings.emails_off_since = utcnow() if general.emails_off else None
        settings.emails_off_by = actor.name if general.emails_off else ""
    settings.from_name, settings.from_email = general.from_name, general.from_email
    settings.bcc = ", ".join(general.bcc)
    settings.use_ssl, settings.emails_off = general.use_ssl, general.emails_off


def _write_smtp(
    settings: EmailSettings, draft: SMTPDraft, changed: list[str], actor: Actor, equipment: Equipment
) -> None:
    settings.smtp_host, settings.smtp_port, settings.username = draft.smtp_host, draft.smtp_port, draft.username
    if draft.password.action == SecretAction.REMOVE:
        settings.password_sealed, settings.password_set_at, settings.password_set_by = None, None, ""
    elif draft.password.value and any(name.startswith("password:") for name in changed):
        settings.password_sealed = equipment.vault.seal(draft.password.value, password_place(settings))
        settings.password_set_at, settings.password_set_by = utcnow(), actor.name


def _write_custom_fields(settings: EmailSettings, pairs: tuple[tuple[str, str], ...], equipment: Equipment) -> None:
    settings.custom_fields.clear()
    # The old rows must be gone before new ones take their positions: the pair is unique.
    db.session.flush()
    settings.custom_fields.extend(_sealed_fields(pairs, equipment))


def _sealed_fields(pairs: tuple[tuple[str, str], ...], equipment: Equipment) -> list[CustomField]:
    rows = []
    for position, (key, value) in enumerate(pairs):
        uid = new_uid()
        sealed = equipment.vault.seal(value, custom_value_place(uid))
        rows.append(CustomField(uid=uid, position=position, key=key, value_sealed=sealed))
    return rows
