"""Connect: the way to the provider's consent page and back, and the end of a connection.

The authorization code flow with PKCE S256. What comes back is refused before any network call unless it is the answer
to a question that this person asked in this session, about these settings, in the last ten minutes, for the first
time. Nothing of an answer is stored unless all of it is good: a failed authorization leaves the old tokens in place.

Source: RFC 6749 4.1, RFC 7636, RFC 9207, RFC 9700; security.md 38 to 44; providers.md 12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from sqlalchemy import select

from extensions import db
from mail import audit, authorization_requests, consent_grant, readable, token_endpoint
from mail import settings as email_settings
from mail.audit import Actor
from mail.authorization_requests import Unspendable, challenge_of
from mail.completeness import Missing
from mail.consent_faults import ConsentFailed, in_providers_words, refusal
from mail.custom_fields import effects_of
from mail.drafts import current_advanced, load_custom_fields, values_for_words
from mail.equipment import Equipment
from mail.errors import MailError
from mail.grants import own_connection, sharers
from mail.providers import OTHER, Provider, is_pair
from mail.token_endpoint import TokenAnswer, TokenCall
from mail.tokens import end_transaction, open_sealed, token_parameters
from models.authorization_request import AuthorizationRequest
from models.connection import Connection, GrantType, Health
from models.email_settings import EmailSettings
from models.store import Store
from security.secret import Secret
from security.urls import parse_endpoint_url
from security.vault import Unreadable

# One value each, or the answer is not looked at (RFC 6749 3.1).
_PARAMETERS = ("state", "code", "error", "error_description", "error_uri", "iss")
_LONGEST_VALUE = 8_192
_CODE = re.compile(r"[\x20-\x7e]{1,8192}")  # RFC 6749 A.11
_ERROR = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,100}")  # RFC 6749 A.7


class Departure(NamedTuple):
    """What the page that announces leaving shows: both hosts, and where Continue leads."""

    authorization_url: str
    authorization_host: str
    token_host: str
    provider_name: str


@dataclass(frozen=True)
class Arrival:
    """A connection that stands. `warnings` are sentences; `split_from` names stores that keep the old connection.

    `lost_at`: since when mail was held for it; None when it was not lost.
    """

    store_id: int
    account: str
    warnings: tuple[str, ...] = ()
    split_from: tuple[str, ...] = ()
    lost_at: datetime | None = None


class NotReady(Exception):
    """Connect has to wait for these settings."""

    def __init__(self, missing: tuple[Missing, ...]) -> None:
        super().__init__(", ".join(one.label for one in missing))
        self.missing = missing


# --- There


def begin(
    settings: EmailSettings, *, user_id: int, session_hash: str, equipment: Equipment, login_hint: str = ""
) -> Departure:
    """Return where to go for consent. Remembers the question; the caller commits.

    Args:
        login_hint: the mailbox to suggest; the sign-in address by default.

    Raises:
        NotReady: something that Connect needs is missing or unfit.
    """
    connection = _ready(settings, equipment)
    provider = provider_of(connection, equipment)
    if broken := readable.of_connection(connection, equipment, readable.NEEDED_TO_CONNECT):
        raise NotReady(broken)
    try:
        custom = dict(effects_of(load_custom_fields(settings, equipment)).authorize_parameters)
        ticket = authorization_requests.issue(
            settings,
            user_id=user_id,
            session_hash=session_hash,
            expected_issuer=_expected_issuer(connection, provider),
            equipment=equipment,
        )
    except Unreadable:
        raise NotReady((readable.CUSTOM_FIELDS,)) from None
    hint = login_hint or current_advanced(settings, equipment).effective_login
    parts = urlsplit(connection.authorization_url)
    # Later ones win, so neither the URL nor a custom field replaces what the flow depends on, or repeats it.
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(provider.authorize_params)
    query |= {"login_hint": hint} if hint else {}
    # OpenID Connect Core 11: without it, servers leave offline_access out. A custom field may say otherwise.
    query |= {"prompt": "consent"} if connection.issuer and "offline_access" in connection.scope.split() else {}
    query |= custom | {
        "response_type": "code",
        "client_id": connection.client_id,
        "redirect_uri": equipment.redirect_uri,
        "scope": connection.scope,
        "state": ticket.state,
        "code_challenge": challenge_of(ticket.verifier),
        "code_challenge_method": "S256",
    }
    return Departure(
        urlunsplit(parts._replace(query=urlencode(query, quote_via=quote), fragment="")),
        _host_of(connection.authorization_url),
        _host_of(connection.token_url),
        provider.name if provider.key != OTHER.key else _host_of(connection.authorization_url),
    )


def _ready(settings: EmailSettings, equipment: Equipment) -> Connection:
    """Return the connection if it can be consented to. Raises NotReady."""
    connection = settings.connection
    draft = current_advanced(settings, equipment)
    # Which server mail goes through and what the sender is called are no matter of consent.
    needs = {"client_id", "client_secret", "authorization_url", "token_url", "scope"}
    missing = email_settings.missing(settings, equipment, draft=draft, to_connect=True)
    if found := tuple(one for one in missing if one.field in needs):
        raise NotReady(found)
    assert connection is not None  # without one, everything is missing
    if connection.grant_type is GrantType.CLIENT_CREDENTIALS:
        words = "client_credentials needs no sign-in. Choose authorization_code to connect a mailbox"
        raise NotReady((Missing("grant_type", "Grant Type", words),))
    provider = provider_of(connection, equipment)
    if connection.authorization_url != provider.authorization_url:
        # The sandbox's preset is plain http on this machine; whatever people type is https.
        try:
            parse_endpoint_url(connection.authorization_url)
        except ValueError as error:
            raise NotReady((Missing("authorization_url", "Authorization URL", str(error)),)) from None
    # What an issuer names in its metadata is a pair, whatever the hosts; nothing but that is stored with an issuer.
    if not connection.issuer and not is_pair(connection.authorization_url, connection.token_url, provider):
        words = (
            "Authorization URL and Access Token URL belong to different servers. Use two of the same host, "
            "or the two of the provider’s preset"
        )
        raise NotReady((Missing("token_url", "Access Token URL", words),))
    return connection


def provider_of(connection: Connection, equipment: Equipment) -> Provider:
    """Return what the catalogue knows about the connection's provider, `other` for one it does not know."""
    return equipment.providers.get(connection.provider) or OTHER


def _expected_issuer(connection: Connection, provider: Provider) -> str:
    """Return the issuer to expect: that of the metadata, or the preset's as long as its consent page is asked."""
    if connection.issuer:
        return connection.issuer
    return provider.issuer if connection.authorization_url == provider.authorization_url else ""


# --- And back


@dataclass(frozen=True)
class _Pending:
    """A question whose answer has come, read out of the database so that no transaction stays open."""

    request: AuthorizationRequest
    settings_id: int
    store_id: int
    provider: Provider
    iss_required: bool
    values: Mapping[str, str]

    def failure(self, code: str, text: str) -> ConsentFailed:
        """Return the failure for an error in the provider's words."""
        key = self.provider.key
        return in_providers_words(code, text, provider=key, values=self.values, store_id=self.store_id)

    def refusal(self, code: str) -> ConsentFailed:
        """Return the failure for a refusal of ours."""
        return refusal(code, store_id=self.store_id, provider=self.provider.name)


def finish(
    args: Mapping[str, Sequence[str]],
    *,
    user_id: int,
    session_hash: str,
    may_connect: Callable[[int], bool],
    actor: Actor,
    equipment: Equipment,
) -> Arrival:
    """Take the answer of the consent page: check it, redeem the code, store the grant.

    Commits that the question is answered, and every failure's audit entry; the caller commits the success.

    Args:
        args: all values of each query parameter.
        may_connect: whether this person still may connect the store of this id.

    Raises:
        ConsentFailed: with its own sentence and way out for each thing that can be wrong.
    """
    # A GET's transaction only reads; the one that spends the state writes from its start.
    end_transaction()
    answer = _read_answer(args)
    spent = authorization_requests.spend(answer["state"], user_id=user_id, session_hash=session_hash)
    if isinstance(spent, Unspendable):
        raise refusal(spent.value)
    if not may_connect(spent.store_id):
        raise refusal("forbidden")
    pending = _pending(spent, equipment)
    try:
        _check_issuer(answer, pending)
        call = _call_for(answer, pending, equipment)
        end_transaction()
        granted = token_endpoint.call(call, door=equipment.door)
        return _store(granted, pending, actor, equipment)
    except ConsentFailed as failure:
        raise _noted(failure, pending, actor) from None
    except MailError as error:
        raise _noted(pending.failure(error.code, error.detail), pending, actor) from None
    except Unreadable as error:
        raise _noted(pending.failure("unreadable", str(error)), pending, actor) from None


def _read_answer(args: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the parameters we know, empty where absent."""
    if any(len(values) > 1 for values in args.values()):
        raise refusal("parameter_repeated")
    answer = {name: args[name][0] if name in args else "" for name in _PARAMETERS}
    if not answer["state"]:
        raise refusal("state_missing")
    if any(len(value) > _LONGEST_VALUE for value in answer.values()):
        raise refusal("parameter_unusable")
    return answer


def _pending(request: AuthorizationRequest, equipment: Equipment) -> _Pending:
    settings = db.session.scalar(select(EmailSettings).where(EmailSettings.store_id == request.store_id))
    if settings is None:
        raise refusal("store_gone")
    if not _is_as_asked(request, settings, equipment):
        raise refusal("settings_changed", store_id=request.store_id)
    if request.redirect_uri != equipment.redirect_uri:
        raise refusal("redirect_changed", store_id=request.store_id)
    connection = settings.connection
    assert connection is not None  # its fingerprint was just compared
    values = values_for_words(current_advanced(settings, equipment), equipment)
    db.session.expunge(request)
    provider = provider_of(connection, equipment)
    iss_required = connection.iss_required if connection.issuer else provider.iss_required
    return _Pending(request, settings.id, settings.store_id, provider, iss_required, values)


def _is_as_asked(request: AuthorizationRequest, settings: EmailSettings, equipment: Equipment) -> bool:
    if settings.connection is None:
        return False
    try:
        return authorization_requests.fingerprint(settings, equipment) == request.settings_fingerprint
    except Unreadable:
        return False


def _check_issuer(answer: Mapping[str, str], pending: _Pending) -> None:
    """Compare by plain equality (RFC 9207 2.4); before `error` and `code` are believed."""
    expected = pending.request.expected_issuer
    if expected and answer["iss"] and answer["iss"] != expected:
        raise pending.refusal("issuer_mismatch")
    # A refusal without it does no harm: there is no code that could go to the wrong server.
    if expected and not answer["iss"] and pending.iss_required and not answer["error"]:
        raise pending.refusal("issuer_missing")


def _call_for(answer: Mapping[str, str], pending: _Pending, equipment: Equipment) -> TokenCall:
    """Return the call that redeems the code, at the endpoint that was recorded when we asked."""
    if answer["error"]:
        word = answer["error"] if _ERROR.fullmatch(answer["error"]) else "unknown_error"
        description = answer["error_description"]
        raise pending.failure(word, f"{word}: {description}" if description else word)
    if not answer["code"]:
        raise pending.refusal("code_missing")
    if not _CODE.fullmatch(answer["code"]):
        raise pending.refusal("parameter_unusable")
    settings = db.session.get_one(EmailSettings, pending.settings_id)
    connection = settings.connection
    assert connection is not None
    return TokenCall(
        provider=pending.request.provider,
        token_url=pending.request.token_url,
        client_id=pending.request.client_id,
        client_secret=open_sealed(connection, "client_secret_sealed", equipment),
        grant_type="authorization_code",
        scope=pending.request.scope,
        code=Secret(answer["code"]),
        redirect_uri=pending.request.redirect_uri,
        code_verifier=authorization_requests.verifier_of(pending.request, equipment),
        client_auth=connection.client_auth,
        extra=token_parameters(connection, equipment),
    )


def _store(granted: TokenAnswer, pending: _Pending, actor: Actor, equipment: Equipment) -> Arrival:
    """Write the grant into the store's own connection, unless something about it is wrong."""
    settings = db.session.get(EmailSettings, pending.settings_id, populate_existing=True)
    if settings is None or settings.connection is None:
        raise refusal("store_gone")
    consent_grant.lock(settings.connection_id)
    if not _is_as_asked(pending.request, settings, equipment):
        raise refusal("settings_changed", store_id=pending.store_id)
    login = current_advanced(settings, equipment).effective_login
    who, warnings = consent_grant.judge(
        granted, pending.request, connection=settings.connection, login=login, provider=pending.provider
    )
    others = tuple(store.name for store in sharers(settings))
    connection = own_connection(settings, equipment)
    was_lost = settings.connection.health is Health.NEEDS_REAUTHORIZATION
    lost_at = settings.connection.health_since if was_lost else None
    fields = ["refresh_token: replaced" if connection.has_refresh_token else "refresh_token: set"]
    consent_grant.write(connection, granted, who, login=login, actor=actor, equipment=equipment)
    account = who.address or login
    fields += ["connection"] if others else []
    audit.record(actor, "connected", settings.store, fields=fields, detail=f"{pending.provider.name}: {account}")
    return Arrival(settings.store_id, account, warnings, others, lost_at)


# --- Words


def _noted(failure: ConsentFailed, pending: _Pending, actor: Actor) -> ConsentFailed:
    """Record that the attempt failed, undoing whatever it had begun. Commits."""
    db.session.rollback()
    store = db.session.get(Store, pending.store_id)
    audit.record(actor, "connect_denied" if failure.is_calm else "connect_failed", store, detail=failure.code)
    db.session.commit()
    return failure


def _host_of(url: str) -> str:
    return urlsplit(url).netloc
