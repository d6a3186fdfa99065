"""Microsoft 365 in its four clouds, and Outlook.com. Source: providers.md 1 to 4.

The metadata of Microsoft names no revocation endpoint and no PKCE methods, so neither is read from there; a grant is
ended by an administrator.
"""

from __future__ import annotations

from dataclasses import replace

from mail.providers.records import PKCE, Provider, RedirectRule, SetupStep

_REDIRECTS = RedirectRule(longest=256, forbidden="!$'(),;")
_IDENTITY = "offline_access openid email profile"
_SECRET = SetupStep(
    "Under Certificates & secrets press New client secret. Copy its Value (not the Secret ID) into Client Secret at "
    "once, and note the expiry date."
)
_IDS = SetupStep("On Overview, copy Application (client) ID into Client Id and Directory (tenant) ID into Tenant Id.")
_CONNECT = SetupStep("Press Connect here and sign in as the sending mailbox, not as the administrator.")


def _register(portal: str) -> SetupStep:
    return SetupStep(
        f"Open {portal} > App registrations > New registration. Choose accounts in this directory only, and as "
        "redirect URI platform Web with exactly this address.",
        ("{redirect_uri}",),
    )


def _permissions(more: str = "") -> SetupStep:
    return SetupStep(
        "Under API permissions add Microsoft Graph > Delegated > SMTP.Send, offline_access, openid, email and "
        f"profile. Press Grant admin consent.{more}"
    )


def _allow_smtp(admin_center: str, environment: str = "") -> SetupStep:
    return SetupStep(
        f"{admin_center}tick Authenticated SMTP for the mailbox (Mail > Manage email apps), or run this in Exchange "
        "Online PowerShell.",
        (
            f"Connect-ExchangeOnline{environment}",
            "Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
        ),
    )


MICROSOFT365 = Provider(
    key="microsoft365",
    name="Microsoft 365",
    short_name="Microsoft",
    icon="microsoft",
    is_common=True,
    smtp_host="smtp.office365.com",
    smtp_port=587,
    authorization_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
    token_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",  # noqa: S106  an address, no secret
    scope=f"https://outlook.office.com/SMTP.Send {_IDENTITY}",
    authorize_params=(("prompt", "select_account"),),
    mechanisms=("XOAUTH2",),
    has_tenant=True,
    default_tenant="common",
    pkce=PKCE.SUPPORTED,
    reuse_is_harmless=True,
    # The issuer names the tenant that consented, which nobody knows before; Microsoft promises no `iss`.
    issuer="",
    messages_per_minute=30,
    max_connections=3,
    recipients_per_day=10_000,
    recipients_per_message=500,  # by default; the tenant may set 1 to 1,000
    access_token_minutes=75,
    refresh_idle_days=90,
    secret_max_age_days=730,
    app_only_scope="https://outlook.office365.com/.default",
    redirects=_REDIRECTS,
    setup_steps=(
        _register("entra.microsoft.com"),
        _IDS,
        _SECRET,
        _permissions(),
        _allow_smtp("Open admin.microsoft.com > Users > Active users and "),
        _CONNECT,
    ),
)

# Limits of the national clouds are not published apart; those of the global one are kept, which sends too slowly
# rather than too fast.
_FALLBACK = " If the named permission is refused, use the fallback scope below in Scope."


def _national(
    key: str, name: str, *, login: str, resource: str, smtp_host: str, portal: str, environment: str
) -> Provider:
    fallback = f"{resource}/.default offline_access"
    return replace(
        MICROSOFT365,
        key=key,
        name=name,
        is_common=False,
        smtp_host=smtp_host,
        authorization_url=f"https://{login}/{{tenant}}/oauth2/v2.0/authorize",
        token_url=f"https://{login}/{{tenant}}/oauth2/v2.0/token",
        scope=f"{resource}/SMTP.Send {_IDENTITY}",
        fallback_scope=fallback,
        app_only_scope=f"{resource}/.default",
        setup_steps=(
            _register(portal),
            _IDS,
            _SECRET,
            _permissions(_FALLBACK)._replace(copies=(fallback,)),
            _allow_smtp("Administrators of this cloud mostly keep SMTP sign-in switched off: ", environment),
            _CONNECT,
        ),
    )


GCC_HIGH = _national(
    "microsoft365_gcc_high",
    "Microsoft 365 GCC High",
    login="login.microsoftonline.us",
    resource="https://outlook.office365.us",
    smtp_host="smtp.office365.us",
    portal="portal.azure.us",
    environment=" -ExchangeEnvironmentName O365USGovGCCHigh",
)

# Unverified: the SMTP host (smtp.office365.us is the other candidate); and sources disagree about the resource:
# Microsoft's own Exchange scripts say this one, another client ships outlook.office365.us (providers.md 3).
DOD = _national(
    "microsoft365_dod",
    "Microsoft 365 DoD",
    login="login.microsoftonline.us",
    resource="https://outlook-dod.office365.us",
    smtp_host="outlook-dod.office365.us",
    portal="portal.azure.us",
    environment=" -ExchangeEnvironmentName O365USGovDoD",
)

CHINA = _national(
    "microsoft365_china",
    "Microsoft 365 China (21Vianet)",
    login="login.partner.microsoftonline.cn",
    resource="https://partner.outlook.cn",
    smtp_host="smtp.partner.outlook.cn",
    portal="portal.azure.cn",
    environment=" -ExchangeEnvironmentName O365China",
)

OUTLOOK = replace(
    MICROSOFT365,
    key="outlook",
    name="Outlook.com",
    short_name="Outlook.com",
    is_common=False,
    smtp_host="smtp-mail.outlook.com",
    default_tenant="consumers",
    # No admin consent and no app-only for personal accounts; their access tokens live about an hour. That the 90 days
    # hold for them too is unverified, and taken as the careful assumption.
    app_only_scope="",
    access_token_minutes=60,
    # Of Microsoft 365 subscribers; lower for free and new accounts, by how much is not published. The per-minute and
    # connection limits of work accounts are kept as the careful assumption.
    recipients_per_day=5_000,
    recipients_per_message=500,
    setup_steps=(
        SetupStep(
            "Open entra.microsoft.com > App registrations > New registration; this needs an Entra directory or an "
            "Azure account. Choose accounts in any directory and personal Microsoft accounts, and as redirect URI "
            "platform Web with exactly this address.",
            ("{redirect_uri}",),
        ),
        SetupStep(
            "On Overview, copy Application (client) ID into Client Id. Tenant Id stays consumers.",
            ("consumers",),
        ),
        _SECRET,
        SetupStep(
            "Under API permissions add Microsoft Graph > Delegated > SMTP.Send, offline_access, openid, email and "
            "profile."
        ),
        SetupStep(
            "Press Connect here and sign in with the personal account. From Email Address has to be its own address or "
            "an alias of it."
        ),
    ),
)
