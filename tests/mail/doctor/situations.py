"""Failures with everything around them that is known, and what they amount to; None for the near misses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mail.doctor.deductions import Situation
from mail.errors import Family, Stage
from models.email_settings import Method

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TENANT = "6f1e2d3c-0000-4000-8000-000000000000"
CLIENT = "1b2c3d4e-0000-4000-8000-000000000000"
MAILBOX, ADMIN = "orders@acme.example", "admin@acme.example"
VALUES: dict[str, Any] = {
    "smtp_host": "smtp.office365.com",
    "smtp_port": 587,
    "use_ssl": True,
    "from_email": MAILBOX,
    "login": MAILBOX,
    "client_id": CLIENT,
    "tenant_id": "common",
    "token_url": "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    "scope": "https://outlook.office.com/SMTP.Send offline_access openid email profile",
    "grant_type": "authorization_code",
}
GOOGLE_VALUES = {
    **VALUES,
    "smtp_host": "smtp.gmail.com",
    "scope": "https://mail.google.com/ openid email",
    "token_url": "https://oauth2.googleapis.com/token",
    "tenant_id": "",
}
CLAIMS: dict[str, Any] = {
    "audience": "Exchange Online",
    "audience_id": "https://outlook.office.com",
    "scopes": ["SMTP.Send"],
    "roles": [],
    "user": MAILBOX,
    "is_app": False,
    "tenant": TENANT,
    "app_id": CLIENT,
    "app_name": "Storepost",
    "expires_at": "",
}
GRAPH = {"audience": "Microsoft Graph", "audience_id": "00000003-0000-0000-c000-000000000000"}
APP = {"user": "", "is_app": True, "scopes": []}

BASE = Situation(
    stage=Stage.AUTH,
    family=Family.SMTP,
    code="auth_refused",
    detail="",
    reply_code=535,
    provider="microsoft365",
    method=Method.ADVANCED_SMTP,
    values=VALUES,
    at=NOW,
)
REFUSED_573 = replace(BASE, detail="535 5.7.3 Authentication unsuccessful [SERVER 2026-11-22T11:59:00Z 08D]")
OFF = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the {}. Visit https://aka.ms/"
GMAIL = replace(
    BASE,
    provider="google",
    values=GOOGLE_VALUES,
    detail='535 5.7.8 Username and Password not accepted. {"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}',
)
TOKEN = replace(BASE, stage=Stage.TOKEN, family=Family.TOKEN, code="invalid_client", reply_code=401)
GRANT = replace(
    TOKEN,
    provider="google",
    values=GOOGLE_VALUES,
    code="invalid_grant",
    reply_code=400,
    detail="HTTP 400 invalid_grant: Token has been expired or revoked.",
)
SILENT = replace(
    BASE, stage=Stage.GREET, code="timed_out", detail="Connection unexpectedly closed: timed out", reply_code=None
)
NO_TLS = replace(SILENT, stage=Stage.TLS, code="tls_failed", detail="SSLError: [SSL: WRONG_VERSION_NUMBER]")
UNREACHED = replace(SILENT, stage=Stage.CONNECT, detail="timed out")
DENIED = replace(
    BASE,
    stage=Stage.MESSAGE,
    code="message_refused",
    detail="554 5.2.252 SendAsDenied; not allowed to send as",
    reply_code=554,
)
NOT_YET = (
    "SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid"
)
ENDED = NOT_YET.replace("certificate is not yet valid", "certificate has expired")


def changed(
    base: Situation, *, claims: dict[str, Any] | None = None, values: dict[str, Any] | None = None, **more: Any
) -> Situation:
    """Return the situation with other values of the screen, other claims of the token, other fields."""
    facts = {**base.facts, **({Stage.TOKEN: {"claims": claims}} if claims is not None else {})}
    more.setdefault("facts", facts)
    return replace(base, values={**base.values, **(values or {})}, **more)


def _ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


CASES = {
    # Ports and encryption
    "tls at once on a starttls port": (changed(SILENT, probe={"speaks": "implicit_tls"}), "implicit_tls_here"),
    "starttls on a tls port": (
        changed(NO_TLS, probe={"speaks": "starttls"}, values={"smtp_port": 465}),
        "starttls_here",
    ),
    "no encryption on a tls port": (changed(NO_TLS, probe={"speaks": "clear_smtp"}), "no_encryption_here"),
    "a dead port beside a good one": (
        changed(UNREACHED, probe={"speaks": "nothing", "other_port": 587, "other_speaks": "starttls"}),
        "other_port_answers",
    ),
    "a clear port beside an encrypted one": (
        changed(
            NO_TLS,
            code="starttls_missing",
            probe={"speaks": "clear_smtp", "other_port": 465, "other_speaks": "implicit_tls"},
        ),
        "other_port_encrypts",
    ),
    "a web server": (changed(SILENT, probe={"speaks": "other"}), "not_a_mail_server"),
    "a server that said so itself": (changed(SILENT, code="not_smtp"), "not_a_mail_server"),
    "silence everywhere": (
        changed(SILENT, probe={"speaks": "nothing", "other_port": 465, "other_speaks": "nothing"}),
        None,
    ),
    "a neighbour in clear": (
        changed(UNREACHED, probe={"speaks": "nothing", "other_port": 587, "other_speaks": "clear_smtp"}),
        None,
    ),
    "no second look": (SILENT, None),
    "no starttls and nothing beside": (changed(NO_TLS, code="starttls_missing", probe={"speaks": "clear_smtp"}), None),
    "a finding of another step": (changed(BASE, probe={"speaks": "other"}), None),
    # The clock
    "a certificate of tomorrow": (changed(NO_TLS, code="certificate_refused", detail=NOT_YET), "clock_behind"),
    "a certificate of tomorrow with a right clock": (
        changed(NO_TLS, detail=NOT_YET, facts={Stage.TOKEN: {"clock_skew_s": 1.0}}),
        None,
    ),
    "an ended certificate": (changed(NO_TLS, code="certificate_refused", detail=ENDED), None),
    "an ended certificate and a clock ahead": (
        changed(NO_TLS, detail=ENDED, facts={Stage.TOKEN: {"clock_skew_s": -90_000.0}}),
        "clock_ahead",
    ),
    "an ended certificate and a clock behind": (
        changed(NO_TLS, detail=ENDED, facts={Stage.TOKEN: {"clock_skew_s": 90_000.0}}),
        None,
    ),
    "a signed request out of time": (
        changed(GRANT, detail="HTTP 400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)"),
        "clock_off",
    ),
    # App and tenant
    "a single-tenant app by common": (
        changed(TOKEN, detail="HTTP 400 AADSTS50194: not multi-tenant"),
        "single_tenant_app",
    ),
    "an app not found by common": (changed(TOKEN, detail="HTTP 400 AADSTS700016: not found"), "app_not_in_directory"),
    "an app not found in its tenant": (
        changed(
            TOKEN,
            detail="HTTP 400 AADSTS700016: not found",
            values={"tenant_id": TENANT, "token_url": VALUES["token_url"].replace("common", TENANT)},
        ),
        None,
    ),
    "an app not found in a tenant that only the url names": (
        changed(
            TOKEN,
            detail="HTTP 400 AADSTS700016: not found",
            values={"token_url": VALUES["token_url"].replace("common", TENANT)},
        ),
        None,
    ),
    "another number that begins alike": (changed(TOKEN, detail="HTTP 400 AADSTS501940: other"), None),
    # The secret
    "a secret id for a secret": (
        changed(TOKEN, detail="HTTP 401 invalid_client: AADSTS7000215: Invalid client secret", secret_is_id=True),
        "secret_id_pasted",
    ),
    "a wrong secret": (changed(TOKEN, detail="HTTP 401 invalid_client: AADSTS7000215: Invalid client secret"), None),
    "an expired secret": (changed(TOKEN, detail="HTTP 401 invalid_client: AADSTS7000222", secret_is_id=True), None),
    # Google in Testing
    "a week after consent": (
        changed(GRANT, connection={"consented_at": _ago(days=7, hours=2), "refreshed_at": _ago(days=1)}),
        "google_testing",
    ),
    "noticed after the weekend": (
        changed(GRANT, connection={"consented_at": _ago(days=9), "refreshed_at": _ago(days=4)}),
        "google_testing",
    ),
    "lost a week after consent and tested a month later": (
        changed(
            GRANT, connection={"consented_at": _ago(days=37), "refreshed_at": _ago(days=31), "lost_at": _ago(days=30)}
        ),
        "google_testing",
    ),
    "two days after consent": (changed(GRANT, connection={"consented_at": _ago(days=2)}), None),
    "a month after consent": (changed(GRANT, connection={"consented_at": _ago(days=30)}), None),
    "it still worked on the ninth day": (
        changed(GRANT, connection={"consented_at": _ago(days=10), "refreshed_at": _ago(days=1)}),
        None,
    ),
    "nobody knows when consent was": (GRANT, None),
    "junk for an instant": (changed(GRANT, connection={"consented_at": "last week"}), None),
    "a week after consent at microsoft": (
        changed(GRANT, provider="microsoft365", values=VALUES, connection={"consented_at": _ago(days=7)}),
        None,
    ),
    "a reused code": (
        changed(GRANT, detail="HTTP 400 invalid_grant: Bad Request", connection={"consented_at": _ago(days=7)}),
        None,
    ),
    # Switched off
    "off for the tenant": (changed(BASE, detail=OFF.format("Tenant")), "smtp_auth_off_tenant"),
    "off for the mailbox": (changed(BASE, detail=OFF.format("Mailbox"), claims=CLAIMS), "smtp_auth_off_mailbox"),
    "off, whoever the token belongs to": (
        changed(BASE, detail=OFF.format("Mailbox"), connection={"consented_as": ADMIN}),
        "smtp_auth_off_mailbox",
    ),
    "off for a password": (changed(BASE, detail=OFF.format("Tenant"), method=Method.SMTP), None),
    "refused by a policy": (
        changed(BASE, detail="535 5.7.139 Authentication unsuccessful, the request did not meet the criteria"),
        None,
    ),
    # The wrong service, right or user
    "a graph token": (changed(REFUSED_573, claims={**CLAIMS, **GRAPH}), "wrong_service"),
    "a graph token of somebody else": (
        changed(REFUSED_573, claims={**CLAIMS, **GRAPH, "user": ADMIN}),
        "wrong_service",
    ),
    "a token for our own api": (
        changed(REFUSED_573, claims={**CLAIMS, "audience": "api://x", "audience_id": "api://x"}),
        "wrong_service",
    ),
    "a token for the app itself": (
        changed(REFUSED_573, claims={**CLAIMS, "audience": CLIENT, "audience_id": CLIENT}),
        "wrong_service",
    ),
    "a scope without resource": (changed(REFUSED_573, values={"scope": "SMTP.Send offline_access"}), "wrong_service"),
    "a scope of graph": (
        changed(REFUSED_573, values={"scope": "https://graph.microsoft.com/SMTP.Send offline_access"}),
        "wrong_service",
    ),
    "a scope without resource, but a token for exchange": (
        changed(REFUSED_573, claims=CLAIMS, values={"scope": "SMTP.Send offline_access"}),
        None,
    ),
    "a scope of office365.com": (
        changed(REFUSED_573, values={"scope": "https://outlook.office365.com/.default offline_access"}),
        None,
    ),
    "a service we do not know": (
        changed(REFUSED_573, claims={**CLAIMS, "audience": "mail.example", "audience_id": "mail.example"}),
        None,
    ),
    "a right to read only": (
        changed(REFUSED_573, claims={**CLAIMS, "scopes": ["IMAP.AccessAsUser.All"]}),
        "smtp_right_missing",
    ),
    "a token of the administrator": (
        changed(REFUSED_573, claims={**CLAIMS, "user": ADMIN}),
        "wrong_identity_microsoft",
    ),
    "consent by the administrator": (
        changed(REFUSED_573, connection={"consented_as": ADMIN}),
        "wrong_identity_microsoft",
    ),
    "the claims outweigh the consent": (changed(REFUSED_573, claims=CLAIMS, connection={"consented_as": ADMIN}), None),
    "the same in capitals": (changed(REFUSED_573, connection={"consented_as": MAILBOX.upper()}), None),
    "nobody knows whose": (REFUSED_573, None),
    "another's token for a password": (
        changed(REFUSED_573, method=Method.SMTP, connection={"consented_as": ADMIN}),
        None,
    ),
    "an app without the role": (
        changed(REFUSED_573, claims={**CLAIMS, **APP}, values={"grant_type": "client_credentials"}),
        "app_role_missing",
    ),
    "an app with the role": (
        changed(
            REFUSED_573,
            claims={**CLAIMS, **APP, "roles": ["SMTP.SendAsApp"]},
            values={"grant_type": "client_credentials"},
        ),
        "app_not_registered",
    ),
    "an app that says nothing": (changed(REFUSED_573, values={"grant_type": "client_credentials"}), None),
    # Google and others
    "gmail.send": (
        changed(GMAIL, values={"scope": "https://www.googleapis.com/auth/gmail.send openid"}),
        "google_scope",
    ),
    "the mail box unticked": (
        changed(GMAIL, facts={Stage.TOKEN: {"scope": "openid https://www.googleapis.com/auth/userinfo.email"}}),
        "google_unticked",
    ),
    "another google account": (changed(GMAIL, connection={"consented_as": ADMIN}), "wrong_identity"),
    "the right scope and account": (
        changed(
            GMAIL, facts={Stage.TOKEN: {"scope": "https://mail.google.com/"}}, connection={"consented_as": MAILBOX}
        ),
        None,
    ),
    "another account elsewhere": (
        changed(BASE, provider="fastmail", detail="535 5.7.8 no", connection={"consented_as": ADMIN}),
        "wrong_identity",
    ),
    "another account, put off": (
        changed(
            BASE, provider="fastmail", detail="454 4.7.0 later", reply_code=454, connection={"consented_as": ADMIN}
        ),
        None,
    ),
    # Whose From
    "from another's mailbox": (
        changed(DENIED, values={"from_email": "sales@acme.example"}),
        "from_not_owned_microsoft",
    ),
    "from another's mailbox, 5.7.60": (
        changed(
            DENIED, detail="550 5.7.60 SMTP; no permissions to send as", values={"from_email": "sales@acme.example"}
        ),
        "from_not_owned_microsoft",
    ),
    "from a mailbox the token does not own": (
        changed(DENIED, claims={**CLAIMS, "user": ADMIN}),
        "from_not_owned_microsoft",
    ),
    "from an address of nobody at postfix": (
        changed(
            DENIED,
            stage=Stage.SENDER,
            provider="other",
            detail="553 5.7.1 <a@acme.example>: Sender address rejected: not owned by user x",
            values={"from_email": "sales@acme.example"},
        ),
        "from_not_owned",
    ),
    "from the own mailbox": (DENIED, None),
    "another refusal of a message": (
        changed(DENIED, detail="554 5.7.1 spam", values={"from_email": "sales@acme.example"}),
        None,
    ),
}
