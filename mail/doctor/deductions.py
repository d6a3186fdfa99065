"""What one reply cannot say: conclusions from a failure together with the settings, the token and a second look.

"535 5.7.3" is the same for a token of another user, for one made for another service and for an app without rights,
and a port that wants TLS at once looks like a dead one. `deduce` compares what the test learned and returns which of
these it is, when the facts carry it; with less than that it returns nothing, and the words of the catalogue stand.
Pure: no I/O, no secrets, nothing raised over odd values. The words are in `mail/doctor/deduction_words.py`.

Source: providers.md 2, 5, 13 and 14; security.md 49.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from mail.access_token_claims import EXCHANGE, GRAPH, audience_in_words
from mail.doctor.probes import Speaks
from mail.errors import Family, Stage
from mail.providers import TENANT_WORDS
from models.connection import Connection, GrantType, Health, TokenSource
from models.email_settings import Method
from models.types import utcnow
from security.secret import Secret

GOOGLE_MAIL_SCOPE = "https://mail.google.com/"
SMTP_SCOPE, SMTP_ROLE = "SMTP.Send", "SMTP.SendAsApp"
# A grant of a Google app in "Testing" ends 7 days after consent (providers.md 5).
TESTING_LIFE = timedelta(days=7)
# Whoever sends daily notices within a day; without mail, the weekly renewal does.
_NOTICED_WITHIN = timedelta(days=8)
_SLACK = timedelta(hours=3)
_CLOCK_TOLERANCE_S = 120.0

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AUTH_OFF = re.compile(
    r"5\.7\.139\b.{0,200}?SmtpClientAuthentication is disabled for the (Tenant|Mailbox)", re.IGNORECASE
)
_WRONG_IDENTITY = re.compile(r"(?<!\d)535\D{0,8}5\.7\.3\b")
_NOT_OWNED = re.compile(
    r"5\.7\.60\b|5\.2\.252\b|SendAsDenied|not owned by (?:authenticated )?user|not (?:permitted|allowed) to send as"
    r"|Sender address rejected: not (?:owned|logged)",
    re.IGNORECASE,
)
_NOT_OF_NOW = re.compile(r"Token must be a short-lived token|not within its valid time range", re.IGNORECASE)
_IDENTITY_SCOPES = frozenset({"offline_access", "openid", "email", "profile"})


@dataclass(frozen=True)
class Situation:
    """A failure and everything around it that is known.

    Attributes:
        values: of the tested screen, by form name, none of them secret.
        facts: what each step learned; of the token also its `claims` (`TokenClaims.as_facts`).
        secret_is_id: the client secret has the look of an id (`looks_like_id`).
        probe: what `mail.doctor.probes.probe` found.
        connection: what `connection_facts` says of the grant this test used; empty for an unsaved one.
        at: when it failed.
    """

    stage: Stage
    family: Family
    code: str
    detail: str
    reply_code: int | None
    provider: str
    method: Method
    values: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[Stage, Mapping[str, Any]] = field(default_factory=dict)
    secret_is_id: bool = False
    probe: Mapping[str, Any] = field(default_factory=dict)
    connection: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=utcnow)

    def value(self, name: str) -> str:
        """Return a value of the screen as text; empty when it is not there."""
        found = self.values.get(name)
        return "" if found is None else str(found).strip()

    def learned(self, stage: Stage, name: str) -> Any:
        """Return one fact of a step, or None."""
        return (self.facts.get(stage) or {}).get(name)

    @property
    def claims(self) -> Mapping[str, Any]:
        claims = self.learned(Stage.TOKEN, "claims")
        return claims if isinstance(claims, Mapping) else {}

    @property
    def asked_for(self) -> str:
        """The mailbox that the sign-in named."""
        return str(self.learned(Stage.AUTH, "user") or "") or self.value("login") or self.value("from_email")

    @property
    def token_user(self) -> str:
        """Whom the token belongs to: by its own claims, else by who consented."""
        return str(self.claims.get("user") or self.connection.get("consented_as") or "")

    @property
    def is_app_only(self) -> bool:
        return self.value("grant_type") == GrantType.CLIENT_CREDENTIALS or self.claims.get("is_app") is True

    @property
    def is_google(self) -> bool:
        return self.provider == "google" or (self.provider == "other" and self.value("smtp_host") == "smtp.gmail.com")


@dataclass(frozen=True)
class Deduction:
    """What must be the matter: `code` is a key of `mail.doctor.deduction_words.DEDUCED`, `values` fill its words."""

    code: str
    values: Mapping[str, str] = field(default_factory=dict)


def deduce(situation: Situation) -> Deduction | None:
    """Return what the facts together say, or None when the failure speaks for itself or they do not suffice."""
    for rule in _RULES:
        if found := rule(situation):
            return found
    return None


def looks_like_id(secret: Secret | None) -> bool:
    """Tell whether a client secret is a GUID: Microsoft's Secret ID is one, and its secrets never are."""
    return secret is not None and _GUID.fullmatch(secret.reveal().strip()) is not None


def connection_facts(connection: Connection | None) -> dict[str, Any]:
    """Return what a connection knows about its grant as plain values; instants as ISO 8601.

    Who consented is left out for a pasted token: it may be anybody's.
    """
    if connection is None:
        return {}
    is_own = connection.refresh_token_source is not TokenSource.PASTED
    is_lost = connection.health is Health.NEEDS_REAUTHORIZATION
    facts = {
        "consented_as": connection.account if is_own else "",
        "consented_at": connection.connected_at if is_own else None,
        "tenant": connection.account_tenant,
        "refreshed_at": connection.refreshed_at,
        "lost_at": connection.health_since if is_lost else None,
    }
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items() if value}


# Connecting ----------------------------------------------------------------------------------------------------------


def _way_of_talking(s: Situation) -> Deduction | None:
    """Ports and encryption, by the second look."""
    if s.family is not Family.SMTP or s.stage not in (Stage.CONNECT, Stage.TLS, Stage.GREET):
        return None
    speaks, neighbour = s.probe.get("speaks"), s.probe.get("other_port")
    answers = s.probe.get("other_speaks") in (Speaks.IMPLICIT_TLS, Speaks.STARTTLS) and isinstance(neighbour, int)
    good = {"good_port": str(neighbour), "tried": "was tried just now and answers as it should"} if answers else {}
    if s.code == "starttls_missing":
        return Deduction("other_port_encrypts", good) if answers else None
    if s.code == "not_smtp" or speaks == Speaks.OTHER:
        return Deduction("not_a_mail_server", good)
    if s.stage is Stage.GREET and speaks == Speaks.IMPLICIT_TLS:
        return Deduction("implicit_tls_here", {"good_port": _neighbour(s, 465, 2465), **good})
    if s.stage is Stage.TLS and speaks in (Speaks.STARTTLS, Speaks.CLEAR_SMTP):
        code = "starttls_here" if speaks == Speaks.STARTTLS else "no_encryption_here"
        return Deduction(code, {"good_port": _neighbour(s, 587, 2587), **good})
    if answers and speaks == Speaks.NOTHING:
        return Deduction("other_port_answers", good)
    return None


def _neighbour(s: Situation, usual: int, of_ses: int) -> str:
    return str(of_ses if s.value("smtp_port") in ("2465", "2587") else usual)


def _clock(s: Situation) -> Deduction | None:
    """A certificate of tomorrow, or a signed request of yesterday: the clock of this server is what they share."""
    found = s.learned(Stage.TOKEN, "clock_skew_s")
    skew_s = float(found) if isinstance(found, int | float) and not isinstance(found, bool) else 0.0
    off = {"clock_off": _time_off(skew_s)} if abs(skew_s) > _CLOCK_TOLERANCE_S else {}
    if "certificate is not yet valid" in s.detail:
        # A provider whose clock agrees with ours clears it.
        is_cleared = found is not None and skew_s <= _CLOCK_TOLERANCE_S
        return None if is_cleared else Deduction("clock_behind", off)
    if "certificate has expired" in s.detail:
        return Deduction("clock_ahead", off) if skew_s < -_CLOCK_TOLERANCE_S else None
    if s.family is Family.TOKEN and _NOT_OF_NOW.search(s.detail):
        return Deduction("clock_off", off)
    return None


def _time_off(skew_s: float) -> str:
    """Say how far our clock is off; the skew is how far the other one is ahead."""
    minutes = abs(skew_s) / 60
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            count = min(round(minutes / size), 99_999)
            return f"about {count} {unit}{'' if count == 1 else 's'} {'behind' if skew_s > 0 else 'ahead'}"
    return ""


# Getting a token -----------------------------------------------------------------------------------------------------


def _app_and_tenant(s: Situation) -> Deduction | None:
    """A single-tenant app behind an address for everybody."""
    if s.family is not Family.TOKEN:
        return None
    tenant = _tenant_in_use(s)
    known = s.claims.get("tenant") or s.connection.get("tenant") or ""
    learned = {"learned_tenant": str(known)} if known and known not in TENANT_WORDS else {}
    if re.search(r"AADSTS50194\b", s.detail):
        return Deduction("single_tenant_app", {"named_tenant": tenant or "common", **learned})
    if re.search(r"AADSTS700016\b", s.detail) and tenant in TENANT_WORDS:
        return Deduction("app_not_in_directory", {"named_tenant": tenant, **learned})
    return None


def _tenant_in_use(s: Situation) -> str:
    """The tenant of the URL that was asked, which outranks the field (product.md 13.3)."""
    try:
        first = urlsplit(s.value("token_url")).path.strip("/").partition("/")[0].lower()
    except ValueError:
        first = ""
    return first if first in TENANT_WORDS or _GUID.fullmatch(first) else s.value("tenant_id").lower()


def _secret_id(s: Situation) -> Deduction | None:
    is_refused = s.family is Family.TOKEN and re.search(r"AADSTS7000215\b", s.detail) is not None
    return Deduction("secret_id_pasted") if is_refused and s.secret_is_id else None


def _google_testing(s: Situation) -> Deduction | None:
    """A Google grant that worked for its first seven days and not since."""
    if s.family is not Family.TOKEN or not s.is_google or s.code != "invalid_grant":
        return None
    if "expired or revoked" not in s.detail:
        return None
    consented, refreshed = _instant(s.connection.get("consented_at")), _instant(s.connection.get("refreshed_at"))
    if consented is None:
        return None
    ended = min(_instant(s.connection.get("lost_at")) or s.at, s.at) - consented
    lasted = refreshed - consented if refreshed is not None and refreshed >= consented else None
    is_within = lasted is None or lasted <= TESTING_LIFE + _SLACK
    if not is_within or not TESTING_LIFE - _SLACK <= ended <= TESTING_LIFE + _NOTICED_WITHIN:
        return None
    return Deduction("google_testing", {"consented_on": f"{consented.day} {consented:%B %Y}"})


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# Signing in ----------------------------------------------------------------------------------------------------------


def _auth_switched_off(s: Situation) -> Deduction | None:
    if s.stage is not Stage.AUTH or s.method is not Method.ADVANCED_SMTP:
        return None
    found = _AUTH_OFF.search(s.detail)
    if found is None:
        return None
    return Deduction(f"smtp_auth_off_{found[1].lower()}", _whose_token(s))


def _refused_by_exchange(s: Situation) -> Deduction | None:
    """535 5.7.3: the wrong service, the wrong right, the wrong user; in this order, because each hides the next."""
    if s.stage is not Stage.AUTH or s.method is not Method.ADVANCED_SMTP or not _WRONG_IDENTITY.search(s.detail):
        return None
    service = _wrong_service(s)
    if service:
        return Deduction("wrong_service", {"audience": service, **_scope_asked(s)})
    scopes, roles = _texts(s.claims.get("scopes")), _texts(s.claims.get("roles"))
    if s.is_app_only:
        if not s.claims:
            return None
        return Deduction("app_not_registered" if SMTP_ROLE in roles else "app_role_missing", _whose_token(s))
    if scopes and SMTP_SCOPE.lower() not in [scope.lower() for scope in scopes]:
        return Deduction("smtp_right_missing", {"scopes": " ".join(scopes), **_whose_token(s)})
    return Deduction("wrong_identity_microsoft", _whose_token(s)) if _is_anothers(s) else None


def _wrong_service(s: Situation) -> str:
    """Return the service the token is for when that is known and not Exchange; by its claims, else by the scope."""
    audience = str(s.claims.get("audience") or "")
    if audience:
        is_known = audience != str(s.claims.get("audience_id")) or audience == s.value("client_id")
        is_own_api = audience.startswith("api://")
        return audience if audience != EXCHANGE and (is_known or is_own_api) else ""
    asked = s.value("scope") or str(s.learned(Stage.TOKEN, "requested_scope") or "")
    resources = {_resource_of(word) for word in asked.split() if word not in _IDENTITY_SCOPES}
    return GRAPH if resources == {GRAPH} else ""


def _resource_of(scope: str) -> str:
    """Return the service of one scope; without a resource Microsoft reads it as Graph's (providers.md 2)."""
    resource = scope.rpartition("/")[0].rstrip("/")
    return audience_in_words(resource) if resource else GRAPH


def _google_scope(s: Situation) -> Deduction | None:
    if not _is_refused_token(s) or not s.is_google:
        return None
    granted = str(s.learned(Stage.TOKEN, "scope") or "").split()
    asked = s.value("scope").split()
    if asked and GOOGLE_MAIL_SCOPE not in asked and GOOGLE_MAIL_SCOPE not in granted:
        return Deduction("google_scope", {"scope_asked": " ".join(asked)})
    if granted and GOOGLE_MAIL_SCOPE not in granted:
        return Deduction("google_unticked", _whose_token(s))
    return None


def _wrong_identity(s: Situation) -> Deduction | None:
    if not _is_refused_token(s) or s.is_app_only or "5.7.139" in s.detail or not _is_anothers(s):
        return None
    return Deduction("wrong_identity", _whose_token(s))


def _is_refused_token(s: Situation) -> bool:
    return s.stage is Stage.AUTH and s.method is Method.ADVANCED_SMTP and s.reply_code == 535


def _is_anothers(s: Situation) -> bool:
    return bool(s.token_user) and bool(s.asked_for) and not _is_same(s.token_user, s.asked_for)


def _is_same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _whose_token(s: Situation) -> dict[str, str]:
    """Who the token belongs to and who was asked for, as far as both are known."""
    found = {"token_user": s.token_user if not s.is_app_only else "", "asked_for": s.asked_for}
    return {name: value for name, value in found.items() if value}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _scope_asked(s: Situation) -> dict[str, str]:
    scope = s.value("scope")
    return {"scope_asked": scope} if scope else {}


# Handing over --------------------------------------------------------------------------------------------------------


def _from_not_owned(s: Situation) -> Deduction | None:
    """The From address is not the mailbox that signed in."""
    if s.stage not in (Stage.SENDER, Stage.RECIPIENT, Stage.MESSAGE) or not _NOT_OWNED.search(s.detail):
        return None
    sender = s.value("from_email")
    signed_in = next((one for one in (s.asked_for, s.token_user) if one and not _is_same(one, sender)), "")
    if not sender or not signed_in:
        return None
    is_exchange = re.search(r"5\.7\.60\b|5\.2\.252\b|SendAsDenied", s.detail) is not None
    return Deduction("from_not_owned_microsoft" if is_exchange else "from_not_owned", {"signed_in": signed_in})


_RULES: tuple[Callable[[Situation], Deduction | None], ...] = (
    _clock,
    _way_of_talking,
    _app_and_tenant,
    _secret_id,
    _google_testing,
    _auth_switched_off,
    _refused_by_exchange,
    _google_scope,
    _wrong_identity,
    _from_not_owned,
)
