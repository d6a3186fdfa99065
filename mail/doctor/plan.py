"""What one test needs before the network is touched: the way out, the letter, where its access token comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mail import compose, custom_fields, delivery
from mail import settings as email_settings
from mail.access_token_claims import claims_of
from mail.doctor import deductions
from mail.drafts import AdvancedDraft, Draft, SecretAction, current, current_advanced
from mail.equipment import Equipment
from mail.errors import SettingsWrong, Stage
from mail.routes import Route, route_from
from mail.token_endpoint import TokenCall
from mail.tokens import AccessToken, access_token_for, try_out
from mail.wire_names import ascii_domain
from models.connection import GrantType
from models.email_settings import EmailSettings, Method
from models.test_run import TestRun
from models.types import utcnow
from security.secret import Secret

SUBJECT = "Storepost test email"


@dataclass(frozen=True)
class Plan:
    """Everything a test needs, read before the network is touched.

    Attributes:
        is_off: emails are turned off, on the screen or in the store: it ends with the sign-in.
        is_saved: it tests what is stored for the method in use, so what works here works for the store's mail too.
        secret_is_id: the client secret has the look of a Secret ID.
        connection: plain facts about the stored grant, for deductions; empty when this test does not use it.
    """

    route: Route
    content: bytes
    token: Tokens | None
    is_off: bool
    is_saved: bool
    secret_is_id: bool
    connection: dict[str, Any]


@dataclass
class Tokens:
    """Where the access token comes from: the connection as delivery uses it, or a call with unsaved values."""

    connection_id: int | None
    unsaved: TokenCall | None
    uses_stored_token: bool
    requested_scope: str
    known: list[Secret] = field(repr=False)
    equipment: Equipment
    calls: int = 0
    last: AccessToken | None = None

    def __call__(self, *, renew: bool = False, rejected: Secret | None = None) -> AccessToken:
        self.calls += 1
        if self.unsaved is not None:
            token = try_out(
                self.unsaved,
                self.connection_id,
                uses_stored_refresh_token=self.uses_stored_token,
                equipment=self.equipment,
            )
        else:
            assert self.connection_id is not None
            token = access_token_for(
                self.connection_id, equipment=self.equipment, renew=renew, rejected=rejected, urgent=True
            )
        self.known.append(token.value)
        self.last = token
        return token

    @property
    def facts(self) -> dict[str, Any]:
        """What is to be told about the last token besides what delivery tells."""
        # A pasted token that the provider exchanged during the test is worth nothing afterwards: the page says so.
        facts: dict[str, Any] = {
            "renewed": self.calls > 1,
            "pasted": self.unsaved is not None and not self.uses_stored_token,
            "requested_scope": self.requested_scope,
        }
        if self.last is not None:
            claims = claims_of(self.last.value)
            facts |= {"claims": claims.as_facts()} if claims else {}
            facts |= {"clock_skew_s": self.last.clock_skew_s} if self.last.clock_skew_s is not None else {}
        return facts


def plan_from(
    draft: Draft, settings: EmailSettings, row: TestRun, *, equipment: Equipment, known: list[Secret]
) -> Plan:
    """Return what a test of this draft needs. Reads only; `known` gets the secrets that nothing may show.

    Raises:
        SettingsIncomplete: something that sending needs is not there.
        SettingsWrong: stored secrets were given for other values than these, or the letter cannot be written.
        security.vault.Unreadable: a stored secret does not open.
    """
    opened = email_settings.open_secrets(draft, settings, equipment)
    known += [one for one in (opened.password, opened.client_secret, opened.refresh_token) if one]
    if email_settings.binding_conflicts(settings, draft, equipment):
        # Asked before the run was made; only a save at the same moment leads here.
        words = "Somebody saved other settings while this test began. Start it again."
        raise SettingsWrong("changed_meanwhile", words, stage=Stage.SETTINGS)
    route = route_from(draft, settings, equipment)
    letter = _letter(row, settings.store.name, route.sender)
    token = _tokens(draft, settings, opened, known, equipment) if isinstance(draft, AdvancedDraft) else None
    uses_grant = token is not None and (token.unsaved is None or token.uses_stored_token)
    return Plan(
        route=route,
        content=compose.compose(letter, route.sender, extra_headers=route.headers),
        token=token,
        is_off=route.emails_off or settings.emails_off,
        is_saved=row.method is settings.method and draft == current(settings, row.method, equipment),
        secret_is_id=deductions.looks_like_id(opened.client_secret),
        connection=deductions.connection_facts(settings.connection) if uses_grant else {},
    )


def _tokens(
    draft: AdvancedDraft,
    settings: EmailSettings,
    opened: email_settings.OpenedSecrets,
    known: list[Secret],
    equipment: Equipment,
) -> Tokens:
    fields = draft.custom_fields
    if fields is None:
        fields = email_settings.load_custom_fields(settings, equipment)
    app_only = draft.grant_type is GrantType.CLIENT_CREDENTIALS
    keeps_token = draft.refresh_token.action is SecretAction.KEEP
    call = TokenCall(
        provider=draft.provider,
        token_url=draft.token_url,
        client_id=draft.client_id,
        client_secret=opened.client_secret,
        grant_type="client_credentials" if app_only else "refresh_token",
        scope=draft.scope,
        refresh_token=None if app_only else opened.refresh_token,
        client_auth=draft.client_auth,
        extra=custom_fields.effects_of(fields).token_parameters,
    )
    return Tokens(
        connection_id=settings.connection_id,
        unsaved=None if _is_saved(draft, settings, equipment) else call,
        uses_stored_token=keeps_token and not app_only,
        requested_scope=draft.scope,
        known=known,
        equipment=equipment,
    )


def _is_saved(draft: AdvancedDraft, settings: EmailSettings, equipment: Equipment) -> bool:
    """Tell whether everything a token call is made of is what is stored, so that the token is delivery's own."""
    if draft.client_secret.action is not SecretAction.KEEP or draft.refresh_token.action is not SecretAction.KEEP:
        return False
    stored = current_advanced(settings, equipment)
    names = ("provider", "client_id", "tenant_id", "token_url", "scope", "grant_type", "client_auth")
    if any(getattr(draft, name) != getattr(stored, name) for name in names):
        return False
    return draft.custom_fields is None or _parameters(draft) == _parameters(stored)


def _parameters(draft: AdvancedDraft) -> tuple[tuple[str, str], ...]:
    return custom_fields.effects_of(draft.custom_fields or ()).token_parameters


def _letter(row: TestRun, store_name: str, sender: compose.Sender) -> compose.Draft:
    """The fixed text of a test (security.md 55)."""
    method = "SMTP" if row.method is Method.SMTP else "Advanced SMTP"
    lines = (
        "This is a test email from Storepost.",
        "",
        f"Somebody pressed Test Email Settings on the {method} page of {store_name}.",
        "It arrived, so these settings can send. There is nothing to do.",
    )
    return compose.Draft(
        message_id=f"<test-{row.uid}@{_id_domain(sender.address.rpartition('@')[2])}>",
        date=utcnow(),
        subject=SUBJECT,
        text="\n".join(lines) + "\n",
        to=(row.recipient,),
        auto_submitted=delivery.AUTO_SUBMITTED,
    )


def _id_domain(domain: str) -> str:
    try:
        return ascii_domain(domain)
    except ValueError:
        return "storepost.invalid"
